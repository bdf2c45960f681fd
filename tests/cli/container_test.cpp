// What a container takes away: a way round, or a message that names it; never a signal without a word.
#include <gmock/gmock.h>
#include <unistd.h>

#include <array>
#include <fstream>

#include "tests/cli/tiny_engine.h"

namespace ithaca::testing_program {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

// A control group of version 1 or 2, where this process may make one; gone with it.
class ControlGroup {
 public:
  // {file, value} for version 2, then for version 1.
  ControlGroup(const std::string& controller, const std::vector<std::array<std::string, 2>>& version_2,
               const std::vector<std::array<std::string, 2>>& version_1) {
    make("/sys/fs/cgroup/" + controller, version_1);
    if (folder_.empty()) make("/sys/fs/cgroup", version_2);
  }
  ~ControlGroup() {
    std::error_code ignored;
    for (int tries = 0; !folder_.empty() && !fs::remove(folder_, ignored) && tries < 200; ++tries)
      usleep(10000);  // until its last process is gone
  }
  bool made() const { return !folder_.empty(); }
  // `words` in this group.
  Words inside(const Words& words) const {
    return {"/bin/sh", "-c", "echo $$ > " + (folder_ / "cgroup.procs").string() + "; exec " + quoted(words)};
  }

 private:
  void make(const fs::path& parent, const std::vector<std::array<std::string, 2>>& values) {
    std::error_code error;
    const fs::path folder = parent / ("ithaca-test-" + std::to_string(getpid()));
    if (!fs::is_directory(parent, error) || !fs::create_directory(folder, error) || error) return;
    for (const auto& [file, value] : values) {
      std::ofstream out(folder / file);
      if (fs::exists(folder / file, error) && out << value << std::flush) continue;
      fs::remove(folder, error);
      return;
    }
    folder_ = folder;
  }
  fs::path folder_;
};

constexpr const char* kNoGroup = "no control group can be made here (root, and a cgroup mount of its own)";

// cgroup v2 cpu.max, v1 cpu.cfs_quota_us: half a processor.
TEST(Container, ThreadsFollowTheCpuQuota) {
  const ControlGroup half("cpu", {{{"cpu.max", "50000 100000"}}},
                          {{{"cpu.cfs_period_us", "100000"}}, {{"cpu.cfs_quota_us", "50000"}}});
  if (!half.made()) GTEST_SKIP() << kNoGroup;
  const TinyFolder folder;
  const Result env = run_program(half.inside({ITHACA_PROGRAM, "env"}), {}, 60);
  EXPECT_THAT(env.out, testing::ContainsRegex("cores +1 usable by this process"));
  const Result trained = run_program(half.inside(train_words(folder, "out")), {{"OMP_NUM_THREADS", ""}}, 120);
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(folder.read("out/logs/rank_0.log"), HasSubstr(", 1 threads,"));
}

TEST(Container, ARankThatTheKernelEndsForWantOfMemoryIsNamedSo) {
  const ControlGroup small("memory", {{{"memory.max", "40M"}}, {{"memory.swap.max", "0"}}},
                           {{{"memory.limit_in_bytes", "40M"}}});
  if (!small.made()) GTEST_SKIP() << kNoGroup;
  const TinyFolder folder;
  const Result env = run_program(small.inside({ITHACA_PROGRAM, "env"}));
  EXPECT_THAT(env.out, HasSubstr("limit of this container 40.0 MiB"));
  // Two ranks of libtorch need more than that.
  const Result run = run_program(small.inside(train_words(folder, "out", {"--nproc", "2"})), {}, 60);
  EXPECT_EQ(run.code, 4) << run.err;
  EXPECT_THAT(run.err, AllOf(HasSubstr("out of memory: the kernel ended it"), HasSubstr("control group")));
}

// The limits of a shell, as a batch system sets them.
Result limited(const std::string& ulimit, const Words& words, const Variables& variables = {}) {
  return run_program({"/bin/bash", "-c", ulimit + " && exec " + quoted(words)}, variables, 60);
}

TEST(Container, FewFilesAreRaisedOrNamed) {
  const TinyFolder folder;
  const Result soft = limited("ulimit -Sn 16", train_words(folder, "soft", {"--nproc", "2"}));
  EXPECT_EQ(soft.code, 0) << soft.err;
  const Result hard = limited("ulimit -n 20", train_words(folder, "hard", {"--nproc", "2"}));
  EXPECT_EQ(hard.code, 2) << hard.err;
  EXPECT_THAT(hard.err, AllOf(HasSubstr("only 20 files may be open"), HasSubstr("ulimit -n")));
}

TEST(Container, AFileThatMayNotGrowIsToldLikeAFullDisk) {
  const TinyFolder folder;
  const Result weights = limited("ulimit -f 8", train_words(folder, "small"));
  EXPECT_EQ(weights.code, 2) << weights.err;
  EXPECT_THAT(weights.err, AllOf(HasSubstr("cannot be saved"), HasSubstr("ulimit -f")));
  EXPECT_FALSE(folder.has("small/trainer_log.jsonl")) << "met before the training";
  // The weights fit, the optimizer's states do not.
  const auto size = [&](const Words& more) {
    EXPECT_EQ(run_program(train_words(folder, "whole", more)).code, 0);
    return fs::file_size(folder.path("whole/model.safetensors"));
  };
  const std::uintmax_t kilobytes = size({}) / 1024 + 8;
  for (const Words& layout : {Words{}, Words{"--nproc", "2"}}) {
    const std::string output = layout.empty() ? "one" : "two";
    const Result states = limited("ulimit -f " + std::to_string(kilobytes),
                                  train_words(folder, output, layout + Words{"--save_steps", "1"}));
    EXPECT_EQ(states.code, 2) << states.err;
    EXPECT_THAT(states.err, HasSubstr("File too large"));
  }
}

TEST(Container, AModelThatPlainlyDoesNotFitIsRefused) {
  const TinyFolder folder;
  nlohmann::json config = TinyFolder::config();
  config["hidden_size"] = 24576;
  config["intermediate_size"] = 98304;
  config["num_hidden_layers"] = 400;  // some 3 TB of weights
  folder.write("model/config.json", config.dump());
  const Result run = run_program(train_words(folder, "out"));
  EXPECT_EQ(run.code, 2) << run.err;
  EXPECT_THAT(run.err, AllOf(HasSubstr("does not fit"), HasSubstr("the machine has")));
  folder.write("run.yaml", "model_name_or_path: " + folder.path("model") + "\ntrain_file: " +
                               folder.path("train.txt") + "\noutput_dir: " + folder.path("out") + "\n");
  const Result check = run_program({ITHACA_PROGRAM, "check", "cfg", folder.path("run.yaml")});
  EXPECT_EQ(check.code, 0) << "it may be meant for another machine\n" << check.err;
  EXPECT_THAT(check.out, HasSubstr("on this machine the model does not fit"));
}

TEST(Container, AProcessThatMayNotHaveMoreMemorySaysSo) {
  const TinyFolder folder;
  std::string text;
  while (text.size() < 600000) text += folder.read("train.txt");
  folder.write("train.txt", text);
  // Enough to load libtorch; not for 600,000 tokens at a time.
  for (const Words& layout : {Words{}, Words{"--nproc", "2"}}) {
    const Result run = limited(
        "ulimit -v 800000",
        train_words(folder, layout.empty() ? "one" : "two",
                    layout + Words{"--per_device_train_batch_size", "20000", "--threads_per_rank", "1"}));
    EXPECT_EQ(run.code, 2) << run.err;
    EXPECT_THAT(run.err,
                AllOf(HasSubstr("out of memory"), HasSubstr("ulimit -v"), Not(HasSubstr("frame #"))));
  }
}

}  // namespace
}  // namespace ithaca::testing_program
