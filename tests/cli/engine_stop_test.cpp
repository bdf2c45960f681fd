// Signals and kills around evaluations and the end of a run: what was trained is on the disk first.
#include <gmock/gmock.h>

#include <csignal>
#include <thread>

#include "tests/cli/tiny_engine.h"

namespace ithaca::testing_program {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

// Training of a few milliseconds a step with an evaluation of many seconds.
class EngineStop : public testing::TestWithParam<int> {
 protected:
  EngineStop() {
    std::string text;
    for (int i = 0; i < 1500; ++i) text += folder_.read("train.txt");
    folder_.write("long.txt", text);
    std::string lines;
    for (int i = 0; i < 400; ++i) lines += "one line of text for the training " + std::to_string(i) + "\n";
    folder_.write("train.txt", lines);
  }

  Words train(const std::string& output, const Words& more) const {
    Words words = {ITHACA_PROGRAM,
                   "train",
                   "--model_name_or_path",
                   folder_.path("model"),
                   "--train_from_scratch",
                   "--train_file",
                   folder_.path("train.txt"),
                   "--output_dir",
                   folder_.path(output),
                   "--cutoff_len",
                   "48",
                   "--per_device_train_batch_size",
                   "8",
                   "--logging_steps",
                   "1",
                   "--cache_dir",
                   folder_.path("cache"),
                   "--nproc",
                   std::to_string(GetParam()),
                   "--threads_per_rank",
                   "1",
                   "--ddp_timeout",
                   "60"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Words evaluated(const std::string& output, const Words& more) const {
    Words words = train(output, {"--eval_file", folder_.path("long.txt"), "--save_steps", "0"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string log(const std::string& output) const { return folder_.read(output + "/trainer_log.jsonl"); }
  bool has_step(const std::string& output, int step) const {
    return log(output).find("\"current_steps\": " + std::to_string(step)) != std::string::npos ||
           log(output).find("\"current_steps\":" + std::to_string(step)) != std::string::npos;
  }
  static constexpr double kSoon =
      6;  // seconds, on two cores that others use too; the evaluation takes far longer

  TinyFolder folder_;
};

TEST_P(EngineStop, AnEvaluationIsGivenUpAndTheCheckpointSaved) {
  Program run(evaluated("out", {"--max_steps", "100", "--eval_steps", "2"}));
  ASSERT_TRUE(wait_until(60, [&] { return has_step("out", 2); })) << run.err();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ASSERT_FALSE(run.ended()) << run.err();
  run.send(SIGTERM);
  const double sent = run.seconds();
  const Result result = run.wait(60);
  EXPECT_EQ(result.code, 75) << result.err;
  EXPECT_LT(result.seconds - sent, kSoon);
  EXPECT_TRUE(folder_.has("out/checkpoint-2/integrity.json")) << result.err;
  EXPECT_FALSE(has_step("out", 3)) << "it trained on";
  EXPECT_EQ(log("out").find("eval_loss"), std::string::npos);
}

TEST_P(EngineStop, ACheckpointThatIsDueComesBeforeTheEvaluation) {
  Program run(evaluated("out", {"--max_steps", "100", "--eval_steps", "2", "--save_steps", "2"}));
  ASSERT_TRUE(wait_until(60, [&] { return folder_.has("out/checkpoint-2/integrity.json"); })) << run.err();
  EXPECT_EQ(log("out").find("eval_loss"), std::string::npos);
  EXPECT_FALSE(run.ended());
}

TEST_P(EngineStop, TheWeightsAreOnTheDiskBeforeTheLastEvaluationAndItCanBeMadeUpFor) {
  Program run(evaluated("out", {"--max_steps", "3"}));
  ASSERT_TRUE(wait_until(60, [&] { return folder_.has("out/config.json"); })) << run.err();
  EXPECT_TRUE(folder_.has("out/model.safetensors"));
  ASSERT_FALSE(run.ended()) << run.err();
  run.send(SIGINT);
  const double sent = run.seconds();
  const Result result = run.wait(60);
  EXPECT_EQ(result.code, 75) << result.err;
  EXPECT_LT(result.seconds - sent, kSoon);
  EXPECT_TRUE(folder_.has("out/checkpoint-3/integrity.json"));
  EXPECT_FALSE(folder_.has("out/eval_results.json"));
  // The same command, with a shorter text to evaluate: nothing is trained, the evaluation is made.
  Words again =
      train("out", {"--eval_file", folder_.path("train.txt"), "--save_steps", "0", "--max_steps", "3"});
  const Result rest = run_program(again, {}, 60);
  EXPECT_EQ(rest.code, 0) << rest.err;
  EXPECT_TRUE(folder_.has("out/eval_results.json"));
  EXPECT_THAT(rest.err, HasSubstr("step 3 of 3"));
}

INSTANTIATE_TEST_SUITE_P(Ranks, EngineStop, testing::Values(1, 2));

// Rates belong to the steps they name, whatever comes between two log lines.
TEST(Rates, CheckpointsAndEvaluationsDoNotEnterThem) {
  TinyFolder folder;
  const auto rate = [&](const std::string& output, const Words& more) {
    Words words = {ITHACA_PROGRAM,
                   "train",
                   "--model_name_or_path",
                   folder.path("model"),
                   "--train_from_scratch",
                   "--train_file",
                   folder.path("train.txt"),
                   "--output_dir",
                   folder.path(output),
                   "--cutoff_len",
                   "48",
                   "--per_device_train_batch_size",
                   "8",
                   "--max_steps",
                   "40",
                   "--logging_steps",
                   "10",
                   "--cache_dir",
                   folder.path("cache"),
                   "--threads_per_rank",
                   "1"};
    words.insert(words.end(), more.begin(), more.end());
    const Result result = run_program(words, {}, 60);
    EXPECT_EQ(result.code, 0) << result.err;
    std::vector<double> rates;
    for (const nlohmann::json& line : folder.json_lines(output + "/trainer_log.jsonl"))
      if (line.contains("tokens_per_second")) rates.push_back(line.at("tokens_per_second"));
    EXPECT_EQ(rates.size(), 4u);
    return *std::max_element(rates.begin(), rates.end());
  };
  const double plain = rate("plain", {"--save_steps", "0"});
  // It was 30 times as much where a checkpoint or an evaluation fell on step 9 of 10.
  EXPECT_LT(rate("saved", {"--save_steps", "9"}), 5 * plain);
  EXPECT_LT(rate("evaluated", {"--eval_file", folder.path("train.txt"), "--eval_steps", "9"}), 5 * plain);
}

}  // namespace
}  // namespace ithaca::testing_program
