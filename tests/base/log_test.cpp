#include "ithaca/base/log.h"

#include <gmock/gmock.h>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

std::string terminal_of(int rank, bool on_terminal, const std::filesystem::path& file) {
  testing::internal::CaptureStderr();
  {
    Logger log(rank, on_terminal, file);
    log.info("step 1");
    log.warning("slow disk");
    log.error("no disk");
  }
  return testing::internal::GetCapturedStderr();
}

TEST(Logger, TheTerminalGetsPlainLinesWhereAsked) {
  EXPECT_EQ(terminal_of(0, true, {}), "step 1\nwarning: slow disk\nerror: no disk\n");
  EXPECT_EQ(terminal_of(0, false, {}), "");
}

TEST(Logger, TheFileNamesTimeLevelAndRank) {
  const TemporaryFolder folder;
  EXPECT_EQ(terminal_of(3, false, folder / "rank_3.log"), "");
  const std::string time = "[0-9]+-[0-9]+-[0-9]+ [0-9]+:[0-9]+:[0-9]+.[0-9]+ ";
  EXPECT_THAT(read_file(folder / "rank_3.log", 1000),
              MatchesRegex(time + "\\[info\\] \\[rank 3\\] step 1\n" + time +
                           "\\[warning\\] \\[rank 3\\] .*slow disk\n" + time +
                           "\\[error\\] \\[rank 3\\] .*no disk\n"));
}

TEST(Logger, LinesAreInTheFileAtOnce) {  // a rank that is killed leaves what it said
  const TemporaryFolder folder;
  Logger log(0, false, folder / "log");
  log.info("step 1");
  EXPECT_THAT(read_file(folder / "log", 1000), HasSubstr("step 1"));
}

TEST(Logger, AFileThatCannotBeWrittenIsAUserError) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { Logger(0, false, folder.path()); },
              testing::ThrowsMessage<UserError>(HasSubstr("cannot write the log")));
}

TEST(Logger, TheGuardSurroundsEachTerminalLine) {
  Logger log(0, true, {});
  std::string calls;
  log.set_terminal_guard([](void* text) { *static_cast<std::string*>(text) += "("; },
                         [](void* text) { *static_cast<std::string*>(text) += ")"; }, &calls);
  testing::internal::CaptureStderr();
  log.info("one");
  log.info("two");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "one\ntwo\n");
  EXPECT_EQ(calls, "()()");
}

}  // namespace
}  // namespace ithaca
