#include "ithaca/comm/wait.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "ithaca/base/error.h"
#include "ithaca/comm/process_memory.h"

namespace ithaca {
namespace {

using namespace std::chrono_literals;

TEST(Wait, RanksAreListedInRanges) {
  EXPECT_EQ(rank_list({}), "");
  EXPECT_EQ(rank_list({3}), "3");
  EXPECT_EQ(rank_list({0, 1}), "0, 1");
  EXPECT_EQ(rank_list({0, 1, 2, 5, 7, 8, 9}), "0-2, 5, 7-9");
}

TEST(Wait, EndsWhenItIsDoneOrLateOrInVain) {
  int asked = 0;
  const auto what = [] { return std::string("nobody"); };
  EXPECT_TRUE(wait_aloud([&] { return ++asked == 4; }, 20s, {}, what));
  EXPECT_FALSE(wait_aloud([] { return false; }, 30ms, {}, what));
  WaitHooks hooks;
  hooks.announced_failure = [&]() -> std::optional<std::string> {
    if (++asked < 8) return std::nullopt;
    return "rank 2: the disk is full";
  };
  EXPECT_THAT([&] { wait_aloud([] { return false; }, 20s, hooks, what); },
              testing::ThrowsMessage<CommunicationError>(testing::HasSubstr("rank 2: the disk is full")));
}

TEST(Wait, WhatIsSoonOverIsNotSaid) {
  int said = 0;
  WaitHooks hooks;
  hooks.say = [&](const std::string&) { ++said; };
  { const WaitingAloud aloud("rank 1", 20s, hooks); }
  EXPECT_EQ(said, 0);
}

TEST(SharedMemory, IsOneForTwoProcesses) {
  const auto memory = SharedMemory::make(100000);
  ASSERT_EQ(memory->error(), "");
  auto* bytes = static_cast<char*>(memory->data());
  EXPECT_EQ(bytes[99999], 0);
  const std::string name = memory->name();
  const pid_t child = fork();
  if (child == 0) {
    const auto same = SharedMemory::attach(name, 100000);
    if (!same->data()) _exit(1);
    std::strcpy(static_cast<char*>(same->data()) + 99000, "from the child");
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_STREQ(bytes + 99000, "from the child");
}

TEST(SharedMemory, WhatCannotBeSharedSaysWhy) {
  const auto none = SharedMemory::attach("/proc/self/fd/no", 4096);
  EXPECT_EQ(none->data(), nullptr);
  EXPECT_THAT(none->error(), testing::HasSubstr("No such file"));
}

TEST(ProcessMemory, TheProbeIsQuietWhereNothingFilters) {
  EXPECT_EQ(process_memory_filter(), "");
  EXPECT_EQ(machine_identity(), machine_identity());
}

}  // namespace
}  // namespace ithaca
