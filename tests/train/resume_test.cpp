// A resumed run equals the straight run bit for bit: weights, masters, moments, and the log's figures, from
// every step of a 6-step run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "ithaca/base/json.h"
#include "tests/train/tiny_run.h"

namespace fs = std::filesystem;

namespace ithaca::testing_run {
namespace {

std::vector<Json> log_figures(const fs::path& file) {  // what must not depend on the clock
  std::vector<Json> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const Json json = Json::parse(line);
    lines.push_back({json.at("current_steps"), json.at("loss"), json.at("grad_norm"), json.at("lr"),
                     json.at("total_tokens")});
  }
  return lines;
}

class Resume : public ::testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Resume, EqualsTheStraightRunFromEveryStep) {
  TinyRun run;
  std::vector<std::string> arguments = GetParam();
  const int ranks = std::stoi(arguments.back());
  arguments.pop_back();
  ASSERT_EQ(run.train("straight", arguments, ranks), kDone);
  const std::vector<Json> straight = log_figures(run.path("straight/trainer_log.jsonl"));
  ASSERT_EQ(straight.size(), 6u);
  for (int64_t step = 1; step < 6; ++step) {
    SCOPED_TRACE(step);
    const std::string output = str("resumed-", step);
    fs::create_directories(run.path(output));
    fs::copy(run.path("straight") / str("checkpoint-", step), run.path(output) / str("checkpoint-", step),
             fs::copy_options::recursive);
    fs::copy(run.path("straight/trainer_log.jsonl"),
             run.path(output) / "trainer_log.jsonl");  // the crashed run had gone on to its end
    ASSERT_EQ(run.train(output, arguments, ranks), kDone);
    for (int64_t later = step + 1; later <= 6; ++later)
      EXPECT_EQ(run.bits_of_checkpoint(output, later), run.bits_of_checkpoint("straight", later))
          << "checkpoint-" << later;
    EXPECT_EQ(run.bits_of_weights(output), run.bits_of_weights("straight"));
    EXPECT_EQ(log_figures(run.path(output) / "trainer_log.jsonl"), straight);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, Resume,
    ::testing::Values(std::vector<std::string>{"1"},
                      std::vector<std::string>{"--bf16", "--gradient_accumulation_steps", "2", "1"},
                      std::vector<std::string>{"--sequence_parallel_size", "2", "--lr_scheduler_type",
                                               "cosine", "--warmup_steps", "2", "--gradient_checkpointing",
                                               "full", "2"},
                      std::vector<std::string>{"--bf16", "--weight_decay", "0.1", "3"},
                      std::vector<std::string>{"--packing", "false", "--train_file", "docs.jsonl",
                                               "--logging_steps", "1", "--sequence_parallel_size", "3", "3"},
                      std::vector<std::string>{"--bf16", "--sequence_parallel_size", "2",
                                               "--sequence_parallel_method", "ring",
                                               "--gradient_checkpointing", "keep_attention", "2"},
                      std::vector<std::string>{"--sequence_parallel_size", "4", "--sequence_parallel_method",
                                               "hybrid", "--ulysses_degree", "2", "--sliding_window", "9",
                                               "--gradient_checkpointing", "full", "4"}));

TEST(Layouts, SeeTheSameSamplesAndLosses) {
  TinyRun run;
  // One global batch of 4 rows: 4 x 1, 2 x 2 accumulated, 2 x 2 replicas, and cut over 3 sequence ranks.
  ASSERT_EQ(run.train("a", {"--per_device_train_batch_size", "4"}, 1), kDone);
  ASSERT_EQ(run.train("b", {"--gradient_accumulation_steps", "2"}, 1), kDone);
  ASSERT_EQ(run.train("c", {}, 2), kDone);
  ASSERT_EQ(run.train("d", {"--per_device_train_batch_size", "4", "--sequence_parallel_size", "3"}, 3),
            kDone);
  const std::vector<Json> expected = log_figures(run.path("a/trainer_log.jsonl"));
  ASSERT_EQ(expected.size(), 6u);
  for (const char* other : {"b", "c", "d"}) {
    const std::vector<Json> got = log_figures(run.path(other) / "trainer_log.jsonl");
    ASSERT_EQ(got.size(), expected.size()) << other;
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i][4], expected[i][4]) << other << " tokens of step " << i;
      EXPECT_NEAR(got[i][1].get<double>(), expected[i][1].get<double>(), 1e-4)
          << other << " loss of step " << i;
    }
  }
}

using Words = std::vector<std::string>;
Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Each way of sharing a sequence against one rank, under each pattern: the same losses, and every byte foreseen.
TEST(Layouts, MethodsAndPatternsGiveTheLossesOfOneRank) {
  TinyRun run;
  std::ofstream(run.path("mask.txt")) << "1 0 0 0\n1 1 0 0\n0 1 1 0\n1 0 1 1\n";
  const Words batch = {"--per_device_train_batch_size", "4"};
  const std::vector<std::pair<std::string, Words>> patterns = {
      {"plain", {}},
      {"window", {"--sliding_window", "7"}},
      {"alibi", {"--train_from_scratch", "--position_embedding", "alibi"}},
      {"all", {"--causal", "false"}},
      {"fixed",
       {"--sparse_attention", "fixed", "--sparse_attention.block", "4", "--sparse_attention.num_local_blocks",
        "2"}},
      {"mask",
       {"--sparse_attention", "mask", "--sparse_attention.block", "8", "--sparse_attention.mask_file",
        run.path("mask.txt").string()}}};
  const std::vector<std::pair<int, Words>> methods = {
      {2, {"--sequence_parallel_method", "ulysses", "--ulysses_chunks", "2"}},
      {3, {"--sequence_parallel_method", "ring", "--gradient_checkpointing", "full"}},
      {4,
       {"--sequence_parallel_method", "hybrid", "--ulysses_degree", "2", "--gradient_checkpointing",
        "keep_attention"}},
      {4, {"--sequence_parallel_method", "double_ring", "--cp_window_size", "2"}},
      {2, {"--sequence_parallel_method", "kv_allgather"}}};
  std::vector<double> last_losses;
  for (const auto& [name, pattern] : patterns) {
    ASSERT_EQ(run.train(name, batch + pattern, 1), kDone);
    const std::vector<Json> expected = log_figures(run.path(name) / "trainer_log.jsonl");
    ASSERT_EQ(expected.size(), 6u);
    last_losses.push_back(expected.back()[1]);
    for (const auto& [ranks, method] : methods) {
      const std::string output = str(name, "-", method[1], "-", ranks);
      SCOPED_TRACE(output);
      ASSERT_EQ(run.train(output,
                          batch + pattern + Words{"--sequence_parallel_size", std::to_string(ranks)} + method,
                          ranks),
                kDone);
      const std::vector<Json> got = log_figures(run.path(output) / "trainer_log.jsonl");
      ASSERT_EQ(got.size(), expected.size());
      for (std::size_t i = 0; i < got.size(); ++i)
        EXPECT_NEAR(got[i][1].get<double>(), expected[i][1].get<double>(), 1e-4) << "loss of step " << i;
      const Json results = read_json_file(run.path(output) / "train_results.json");
      EXPECT_GT(results.at("bytes_sent_per_step").get<int64_t>(), 0);
      EXPECT_EQ(results.at("bytes_sent_per_step"), results.at("bytes_predicted_per_step"));
      const double mean = results.at("attention_imbalance").at("mean");
      EXPECT_LE(mean, results.at("attention_imbalance").at("largest").get<double>());
      if (method[1] == "ulysses") {
        EXPECT_NEAR(mean, 4.0 / 3, 1e-9);  // 2 of 3 heads
      }
      if (name == "plain" && method[1] == "ring") {
        EXPECT_LE(mean, 1.15);
      }
    }
  }
  for (std::size_t a = 0; a < last_losses.size(); ++a)  // no setting is without effect
    for (std::size_t b = 0; b < a; ++b)
      EXPECT_GT(std::abs(last_losses[a] - last_losses[b]), 1e-4) << a << " " << b;
}

TEST(Stop, ASignalBeforeTheFirstStepEndsTheRunAndNothingIsWritten) {
  TinyRun run;
  ASSERT_EQ(::kill(::getpid(), SIGTERM), 0);  // pending from the start
  try {
    run.train("stopped", {}, 2);
    ADD_FAILURE() << "it trained";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kStoppedAndSaved) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr("the same command starts anew"));
  }
  EXPECT_FALSE(fs::exists(run.path("stopped/trainer_log.jsonl")));
}

TEST(Stop, ARunThatWasStoppedGoesOnBitForBit) {
  TinyRun run;
  const Words words = {"--save_steps", "0", "--max_steps", "400"};
  ASSERT_EQ(run.train("straight", words, 2), kDone);
  std::thread signal([&] {
    while (!fs::exists(run.path("stopped/trainer_log.jsonl"))) std::this_thread::yield();
    ::kill(::getpid(), SIGTERM);
  });
  const ExitCode code = run.train("stopped", words, 2);
  signal.join();
  ASSERT_EQ(code, kStoppedAndSaved);
  TinyRun fresh;  // another StopSignal, which has seen nothing
  fs::rename(run.path("stopped"), fresh.path("stopped"));
  ASSERT_EQ(fresh.train("stopped", words, 2), kDone);
  EXPECT_EQ(fresh.bits_of_weights("stopped"), run.bits_of_weights("straight"));
}

TEST(Stop, ASignalDuringAStepEndsTheRunAfterThatStep) {
  TinyRun run;
  std::thread signal([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    ::kill(::getpid(), SIGTERM);
  });
  const ExitCode code =
      run.train("long", {"--max_steps", "100000", "--save_steps", "0", "--logging_steps", "1000"}, 2);
  signal.join();
  EXPECT_EQ(code, kStoppedAndSaved);
  int checkpoints = 0;
  for (const auto& entry : fs::directory_iterator(run.path("long")))
    checkpoints += entry.path().filename().string().starts_with("checkpoint-");
  EXPECT_EQ(checkpoints, 1);
}

TEST(Evaluation, IsLoggedDuringTraining) {
  TinyRun run;
  ASSERT_EQ(run.train("evaluated",
                      {"--eval_file", run.path("train.txt"), "--eval_steps", "2", "--plot_loss", "true"}, 2),
            kDone);
  std::ifstream in(run.path("evaluated/trainer_log.jsonl"));
  std::vector<int64_t> steps;
  for (std::string line; std::getline(in, line);)
    if (const Json json = Json::parse(line); json.contains("eval_loss"))
      steps.push_back(json.at("current_steps").get<int64_t>());
  EXPECT_EQ(steps, (std::vector<int64_t>{2, 4, 6}));
  EXPECT_TRUE(fs::exists(run.path("evaluated/training_loss.png")));
}

TEST(Evaluation, WithoutEvalStepsComesAtTheEndAndTakesAsManySamplesAsTraining) {
  TinyRun run;
  const Words words = {"--train_file", "docs.jsonl", "--eval_file",   "docs.jsonl",
                       "--packing",    "false",      "--max_samples", "3"};
  ASSERT_EQ(run.train("evaluated", words, 2), kDone);
  const Json results = Json::parse(run.read("evaluated/eval_results.json"));
  EXPECT_GT(results.at("eval_tokens"), 0);
  EXPECT_GT(results.at("eval_loss"), 0.0);
  // " and 0", " and 1", " and 2" with up to two letters before, and eos: all of the first three documents
  EXPECT_EQ(results.at("eval_tokens"), 6 + 7 + 8);
  EXPECT_TRUE(fs::exists(run.path("evaluated/model.safetensors")));
}

TEST(Resume, AfterAnOverwriteOldCheckpointsAreGone) {
  TinyRun run;
  ASSERT_EQ(run.train("out", {}), kDone);
  ASSERT_EQ(run.train("out", {"--overwrite_output_dir", "--max_steps", "2"}), kDone);
  EXPECT_TRUE(fs::exists(run.path("out/checkpoint-2")));
  EXPECT_FALSE(fs::exists(run.path("out/checkpoint-6")));
}

TEST(Resume, RefusesAnotherOrderOfSamples) {
  TinyRun run;
  ASSERT_EQ(run.train("out", {"--max_steps", "3"}), kDone);
  try {
    run.train("out", {"--seed", "7"});
    ADD_FAILURE() << "another seed was accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("seed 42 then, 7 now"));
  }
}

TEST(Resume, RefusesWhatIsNotThere) {
  TinyRun run;
  EXPECT_THROW(run.train("none", {"--resume_from_checkpoint", "true"}), UserError);
  ASSERT_EQ(run.train("done", {}), kDone);
  try {
    run.train("done", {"--max_steps", "3"});
    ADD_FAILURE() << "a checkpoint beyond the run was accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("beyond the 3 steps"));
  }
}

TEST(Numerics, AnOverflowStopsBeforeTheUpdate) {
  TinyRun run;
  try {
    run.train("boom", {"--optim", "sgd", "--learning_rate", "1e6", "--max_grad_norm", "0"}, 2);
    ADD_FAILURE() << "a run that diverged was called done";
  } catch (const NumericsError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("the step was not applied"));
    EXPECT_EQ(error.code(), kNumericsFailed);
  }
}

}  // namespace
}  // namespace ithaca::testing_run
