// Checkpoints of real processes: bf16 over several ranks, stopped and killed at any moment, gone on with to the same
// bits; and the final model, whole or absent.
#include <gmock/gmock.h>

#include <csignal>
#include <fstream>
#include <random>
#include <thread>

#include "tests/cli/tiny_engine.h"

namespace ithaca::testing_program {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

// Ranks, and whether bf16.
class EngineSave : public testing::TestWithParam<std::tuple<int, bool>> {
 protected:
  EngineSave() {
    // More tensors than 64 a pair of ranks: 8 layers x 9 x (master_low and two moments).
    nlohmann::json config = TinyFolder::config();
    config["num_hidden_layers"] = 8;
    folder_.write("model/config.json", config.dump());
  }

  Words train(const std::string& output, int steps, const Words& more = {}) const {
    return Words{ITHACA_PROGRAM,
                 "train",
                 "--model_name_or_path",
                 folder_.path("model"),
                 "--train_from_scratch",
                 "--train_file",
                 folder_.path("train.txt"),
                 "--output_dir",
                 folder_.path(output),
                 "--cutoff_len",
                 "31",
                 "--per_device_train_batch_size",
                 "4",
                 "--gradient_accumulation_steps",
                 ranks() == 4 ? "1" : "2",
                 "--max_steps",
                 std::to_string(steps),
                 "--logging_steps",
                 "1",
                 "--learning_rate",
                 "0.01",
                 "--cache_dir",
                 folder_.path("cache"),
                 "--ddp_timeout",
                 "30",
                 "--threads_per_rank",
                 "1"} +
           (ranks() > 1 ? Words{"--sequence_parallel_size", "2"} : Words{}) +
           Words{"--nproc", std::to_string(ranks()), "--bf16", std::get<1>(GetParam()) ? "true" : "false"} +
           more;
  }
  int ranks() const { return std::get<0>(GetParam()); }
  std::size_t logged(const std::string& output) const {
    return folder_.has(output + "/trainer_log.jsonl")
               ? folder_.json_lines(output + "/trainer_log.jsonl").size()
               : 0;
  }
  bool is_saving(const std::string& output) const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_.path(output), error))
      if (entry.path().filename().string().find(".tmp.") != std::string::npos) return true;
    return false;
  }
  // A name without .tmp is given only to what is whole.
  int newest_checkpoint(const std::string& output) const {
    int newest = 0;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_.path(output), error)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("checkpoint-") && name.find(".tmp.") == std::string::npos)
        newest = std::max(newest, std::stoi(name.substr(11)));
    }
    return newest;
  }
  void expect_same_model(const std::string& a, const std::string& b) const {
    for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"})
      EXPECT_TRUE(folder_.read(a + "/" + file) == folder_.read(b + "/" + file)) << file << " of " << a;
    for (const auto& entry : fs::directory_iterator(folder_.path(a)))
      EXPECT_EQ(entry.path().filename().string().find(".tmp."), std::string::npos) << entry.path();
  }

  TinyFolder folder_;
};

TEST_P(EngineSave, EveryStepIsSavedAndAStoppedRunGoesOnBitForBit) {
  const Words often = {"--save_steps", "1", "--save_total_limit", "2"};
  const Result straight = run_program(train("straight", 30, {"--save_steps", "10"}), {}, 240);
  ASSERT_EQ(straight.code, 0) << straight.err;
  Program run(train("stopped", 30, often));
  ASSERT_TRUE(wait_until(30, [&] { return logged("stopped") >= 3; })) << run.err();
  run.send(SIGTERM);
  const Result stopped = run.wait(30);
  ASSERT_EQ(stopped.code, 75) << stopped.err;
  const Result rest = run_program(train("stopped", 30, often), {}, 240);
  ASSERT_EQ(rest.code, 0) << rest.err;
  EXPECT_THAT(rest.err, HasSubstr("resuming"));
  expect_same_model("stopped", "straight");
}

// ITHACA_FULL: the long test's number of kills.
TEST_P(EngineSave, AKilledRunIsFoundWholeAndGoesOnBitForBit) {
  const bool full = std::getenv("ITHACA_FULL") != nullptr;
  const int wanted = full ? 167 : 10, steps = 40;
  const Words often = {"--save_steps", "1", "--save_total_limit", "2"};
  const Result straight = run_program(train("straight", steps, {"--save_steps", "0"}), {}, 240);
  ASSERT_EQ(straight.code, 0) << straight.err;
  std::mt19937 random(7 + static_cast<unsigned>(ranks()));
  int kills = 0, runs = 0;
  while (kills < wanted) {
    ASSERT_LT(++runs, 20 * wanted) << "runs end before they can be killed";
    const int newest = newest_checkpoint("killed");
    Program run(train("killed", steps, often));
    const std::size_t before = logged("killed");
    const bool while_saving = kills % 2 == 1;
    const auto some = std::chrono::microseconds(std::uniform_int_distribution<int>(0, 60000)(random));
    ASSERT_TRUE(wait_until(30, [&] {
      return run.ended() || (while_saving ? is_saving("killed") : logged("killed") > before);
    })) << run.err();
    if (!while_saving) std::this_thread::sleep_for(some);
    // The parent first: it must not speak of ranks that are killed one after another.
    const std::vector<pid_t> ranks = children_of(run.pid());
    if (!run.ended()) {
      run.send(SIGKILL);
      for (const pid_t rank : ranks) kill(rank, SIGKILL);
      ++kills;
    }
    const int code = run.wait(10).code;
    ASSERT_TRUE(code == 128 + SIGKILL || code == 0) << code << run.err();
    if (const std::string err = run.err(); err.find("training on") != std::string::npos && newest > 0) {
      EXPECT_THAT(err, HasSubstr("resuming " + folder_.path("killed") + "/checkpoint-" +
                                 std::to_string(newest) + ":"));
    }
    if (code == 0) {  // it got to its end: another one from the start
      expect_same_model("killed", "straight");
      fs::remove_all(folder_.path("killed"));
    }
  }
  const Result rest = run_program(train("killed", steps, often), {}, 240);
  ASSERT_EQ(rest.code, 0) << rest.err;
  expect_same_model("killed", "straight");
}

INSTANTIATE_TEST_SUITE_P(Layouts, EngineSave, testing::Combine(testing::Values(1, 2, 4), testing::Bool()),
                         [](const auto& info) {
                           return std::to_string(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) ? "_bf16" : "_float32");
                         });

}  // namespace
}  // namespace ithaca::testing_program
