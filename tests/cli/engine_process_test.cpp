// Whole runs of the program as processes: layouts agree, launchers are understood, runs stop, go on and fail
// as they should, in bounded time. Wrong inputs are in engine_bad_input_test.cpp.
#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <functional>
#include <memory>
#include <thread>

#include "tests/cli/run_program.h"
#include "tests/support/tiny_folder.h"

namespace ithaca::testing_program {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
namespace fs = std::filesystem;

using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Looks every few milliseconds, for at most `seconds`.
bool wait_until(double seconds, const std::function<bool()>& done) {
  for (double waited = 0; waited < seconds; waited += 0.005) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

int times(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

class EngineProcess : public testing::Test {
 protected:
  // From scratch, a global batch of 4 rows of 31 tokens (divided unevenly by 2, 3 and 4) unless `more` says
  // so.
  Words train(const std::string& output, const Words& more = {}) const {
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
                 "--max_steps",
                 "4",
                 "--logging_steps",
                 "1",
                 "--learning_rate",
                 "0.01",
                 "--cache_dir",
                 folder_.path("cache"),
                 "--ddp_timeout",
                 "20",
                 "--plot_loss"} +
           more;
  }
  std::vector<double> losses(const std::string& output) const {
    std::vector<double> result;
    for (const json& line : folder_.json_lines(output + "/trainer_log.jsonl"))
      result.push_back(line.at("loss").get<double>());
    return result;
  }
  std::size_t logged(const std::string& output) const {
    return folder_.json_lines(output + "/trainer_log.jsonl").size();
  }
  std::vector<fs::path> checkpoints(const std::string& output) const {
    std::vector<fs::path> result;
    for (const auto& entry : fs::directory_iterator(folder_.path(output)))
      if (entry.path().filename().string().starts_with("checkpoint-")) result.push_back(entry.path());
    return result;
  }
  void expect_whole_output(const std::string& output, int ranks) const;
  void stops_and_goes_on(const std::string& name, int steps, const Words& layout);
  void loses_a_rank(int rank);

  TinyFolder folder_;
};

void EngineProcess::expect_whole_output(const std::string& output, int ranks) const {
  for (const char* file :
       {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "trainer_log.jsonl",
        "trainer_state.json", "train_results.json", "training_loss.png", "resolved_settings.yaml"})
    EXPECT_GT(folder_.read(output + "/" + file).size(), 0u) << output << "/" << file;
  for (int rank = 0; rank < ranks; ++rank)
    EXPECT_TRUE(folder_.has(output + "/logs/rank_" + std::to_string(rank) + ".log")) << rank;
  EXPECT_FALSE(folder_.has(output + "/logs/rank_" + std::to_string(ranks) + ".log"));
  EXPECT_THAT(folder_.read(output + "/training_loss.png"), StartsWith("\x89PNG"));
  int step = 0;
  for (const json& line : folder_.json_lines(output + "/trainer_log.jsonl")) {
    EXPECT_EQ(line.at("current_steps"), ++step);
    for (const char* key : {"loss", "grad_norm", "lr", "tokens_per_second"})
      EXPECT_GT(line.at(key).get<double>(), 0) << key;
  }
  EXPECT_EQ(folder_.json(output + "/trainer_state.json").at("global_step"), step);
  const json results = folder_.json(output + "/train_results.json");
  EXPECT_EQ(results.at("bytes_sent_per_step"), results.at("bytes_predicted_per_step")) << output;
  EXPECT_EQ(results.at("bytes_sent_per_step").get<int64_t>() > 0, ranks > 1);
  EXPECT_EQ(results.at("peak_memory_bytes_per_rank").size(), static_cast<std::size_t>(ranks));
}

TEST_F(EngineProcess, EveryLayoutTrainsAlikeAndLeavesAWholeFolder) {
  struct Layout {
    int ranks;
    const char *sequence, *rows;
  };
  std::vector<double> expected;
  for (const Layout& layout : {Layout{1, "1", "4"}, {2, "2", "4"}, {3, "3", "4"}, {4, "2", "2"}}) {
    const std::string output = "out" + std::to_string(layout.ranks);
    const Result result =
        run_program(train(output, {"--nproc", std::to_string(layout.ranks), "--sequence_parallel_size",
                                   layout.sequence, "--per_device_train_batch_size", layout.rows}));
    ASSERT_EQ(result.code, 0) << output << result.err;
    for (const char* once : {"training on ", "step 1/4", "step 4/4", "train metrics"})
      EXPECT_EQ(times(result.err, once), 1) << output << " " << once << "\n" << result.err;
    EXPECT_THAT(result.err,
                AllOf(Not(HasSubstr("rank 1")), Not(HasSubstr("[c10d]")), Not(HasSubstr("frame #"))));
    EXPECT_EQ(result.out, "");
    expect_whole_output(output, layout.ranks);
    const std::vector<double> found = losses(output);
    if (expected.empty()) expected = found;
    ASSERT_EQ(found.size(), 4u);
    for (std::size_t step = 0; step < 4; ++step)
      EXPECT_NEAR(found[step], expected[step], 1e-4) << output << " step " << step + 1;
  }
  EXPECT_LT(expected[3], expected[0]);
}

TEST_F(EngineProcess, EvalAndGenerateAfterTraining) {
  ASSERT_EQ(run_program(train("out")).code, 0);
  const auto eval = [&](const std::string& output, const Words& more) {
    Words words = {ITHACA_PROGRAM,       "eval",        "--model_name_or_path",
                   folder_.path("out"),  "--eval_file", folder_.path("train.txt"),
                   "--cutoff_len",       "31",          "--cache_dir",
                   folder_.path("cache")};
    if (!output.empty()) words = words + Words{"--output_dir", folder_.path(output)};
    return run_program(words + more);
  };
  const Result one = eval("eval1", {}),
               two = eval("eval2", {"--nproc", "2", "--sequence_parallel_size", "2"});
  ASSERT_EQ(one.code, 0) << one.err;
  ASSERT_EQ(two.code, 0) << two.err;
  const json a = folder_.json("eval1/eval_results.json"), b = folder_.json("eval2/eval_results.json");
  EXPECT_EQ(a.at("eval_tokens"), b.at("eval_tokens"));
  EXPECT_GT(a.at("eval_tokens").get<int64_t>(), 2000);
  EXPECT_NEAR(a.at("eval_loss").get<double>(), b.at("eval_loss").get<double>(), 1e-5);
  EXPECT_NEAR(a.at("perplexity").get<double>(), std::exp(a.at("eval_loss").get<double>()), 1e-6);
  EXPECT_EQ(times(two.err, "eval metrics"), 1) << two.err;

  // without a folder for the results: the setting is asked for before anything is computed
  const Result nowhere = eval("", {});
  EXPECT_EQ(nowhere.code, 2) << nowhere.err;
  EXPECT_THAT(nowhere.err, AllOf(HasSubstr("output_dir"), Not(HasSubstr("perplexity"))));

  const Result below_a_file = eval("train.txt/eval", {});
  EXPECT_EQ(below_a_file.code, 2) << below_a_file.err;
  EXPECT_THAT(below_a_file.err, AllOf(HasSubstr("output_dir"), HasSubstr("train.txt/eval")));

  const Words generate = {ITHACA_PROGRAM, "generate", "--model_name_or_path", folder_.path("out"),
                          "--prompt",     "verse 3",  "--max_new_tokens",     "8"};
  const Result text = run_program(generate);
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, StartsWith("verse 3"));
  EXPECT_GT(text.out.size(), std::string("verse 3\n").size());
  const Result refused = run_program(generate + Words{"--nproc", "2"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("one rank"), HasSubstr("--nproc 2")));
}

TEST_F(EngineProcess, LaunchersAreUnderstoodThroughTheirEnvironment) {
  ASSERT_EQ(run_program(train("alone")).code, 0);
  const std::vector<double> expected = losses("alone");
  const auto openmpi = [](const std::string& rank, const std::string& port) {
    return Variables{{"OMPI_COMM_WORLD_RANK", rank},       {"OMPI_COMM_WORLD_SIZE", "2"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", rank}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                     {"MASTER_ADDR", "127.0.0.1"},         {"MASTER_PORT", port}};
  };
  for (const std::string launcher : {"torchrun", "openmpi"}) {
    const std::string port = std::to_string(free_port());
    const auto start = [&](int rank) {
      return std::make_unique<Program>(
          train(launcher, {"--sequence_parallel_size", "2"}),
          launcher == "torchrun" ? torchrun_variables(rank, 2, port) : openmpi(std::to_string(rank), port));
    };
    const auto rank_1 = start(1), rank_0 = start(0);  // the first to come is not the one that listens
    const Result first = rank_0->wait(20), second = rank_1->wait(20);
    EXPECT_EQ(first.code, 0) << launcher << first.err;
    EXPECT_EQ(second.code, 0) << launcher << second.err;
    EXPECT_EQ(second.err, "") << launcher;
    const std::vector<double> found = losses(launcher);
    ASSERT_EQ(found.size(), expected.size()) << launcher;
    for (std::size_t step = 0; step < found.size(); ++step) EXPECT_NEAR(found[step], expected[step], 1e-4);
  }
}

// Long enough that a signal sent after the second logged step comes in the middle.
void EngineProcess::stops_and_goes_on(const std::string& name, int steps, const Words& layout) {
  const Words more = layout + Words{"--max_steps", std::to_string(steps), "--save_steps", "0"};
  const Result straight = run_program(train(name + "_straight", more), {}, 40);
  ASSERT_EQ(straight.code, 0) << straight.err;

  Program run(train(name, more));
  ASSERT_TRUE(wait_until(15, [&] { return logged(name) >= 2; })) << run.err();
  run.send(SIGTERM);
  const Result stopped = run.wait(20);
  ASSERT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("stopped by a signal"));
  ASSERT_EQ(checkpoints(name).size(), 1u);
  for (const char* file : {"integrity.json", "model.safetensors", "optimizer.safetensors", "config.json"})
    EXPECT_TRUE(fs::exists(checkpoints(name).front() / file)) << file;
  const std::size_t before = logged(name);
  EXPECT_LT(before, static_cast<std::size_t>(steps));

  const Result rest = run_program(train(name, more), {}, 40);
  ASSERT_EQ(rest.code, 0) << rest.err;
  EXPECT_THAT(rest.err, HasSubstr("resuming"));
  EXPECT_EQ(losses(name), losses(name + "_straight"));
  EXPECT_TRUE(folder_.read(name + "/model.safetensors") == folder_.read(name + "_straight/model.safetensors"))
      << "the weights differ after " << before << " + " << steps - before << " steps";
}

TEST_F(EngineProcess, SigtermSavesAndTheSameCommandGoesOnBitForBit) {
  stops_and_goes_on("one", 200, {});
}

TEST_F(EngineProcess, SigtermToTheParentOfTwoRanksSavesAndGoesOnBitForBit) {
  stops_and_goes_on("two", 40, {"--nproc", "2", "--sequence_parallel_size", "2"});
}

void EngineProcess::loses_a_rank(int rank) {
  const std::string output = "lost" + std::to_string(rank);
  Program run(train(output, {"--nproc", "3", "--sequence_parallel_size", "3", "--max_steps", "100000"}));
  ASSERT_TRUE(wait_until(15, [&] { return logged(output) >= 2; })) << run.err();
  const std::vector<pid_t> children = children_of(run.pid());
  ASSERT_EQ(children.size(), 3u);
  pid_t victim = 0;
  for (const pid_t child : children)
    if (variable_of(child, "RANK") == std::to_string(rank)) victim = child;
  ASSERT_GT(victim, 0);
  ASSERT_EQ(kill(victim, SIGKILL), 0);
  const double killed_at = run.seconds();
  const Result result = run.wait(15);
  EXPECT_EQ(result.code, 4) << result.err;
  EXPECT_LT(result.seconds - killed_at, 15);
  EXPECT_EQ(times(result.err, "rank " + std::to_string(rank) + " of 3 failed (killed by signal 9"), 1)
      << result.err;
  EXPECT_EQ(times(result.err, "error:"), 0) << "a survivor speaks beside the summary:\n" << result.err;
  EXPECT_THAT(result.err, AllOf(Not(HasSubstr("frame #")), Not(HasSubstr("[c10d]"))));
  for (const pid_t child : children) EXPECT_FALSE(is_running(child)) << child;
}

TEST_F(EngineProcess, AKilledRankEndsTheRunAndIsNamed) {
  loses_a_rank(2);
}

TEST_F(EngineProcess, TheKilledRankThatServesTheStoreIsNamedToo) {
  loses_a_rank(0);
}

TEST_F(EngineProcess, RanksDieWithTheirParent) {
  Program run(train("orphans", {"--nproc", "2", "--max_steps", "100000"}));
  ASSERT_TRUE(wait_until(15, [&] { return logged("orphans") >= 2; })) << run.err();
  const std::vector<pid_t> children = children_of(run.pid());
  ASSERT_EQ(children.size(), 2u);
  run.send(SIGKILL);
  EXPECT_EQ(run.wait(5).code, 128 + SIGKILL);
  for (const pid_t child : children) EXPECT_TRUE(wait_until(5, [&] { return !is_running(child); })) << child;
}

TEST_F(EngineProcess, ARankThatNeverComesIsNamed) {
  const std::string ports[] = {std::to_string(free_port()), std::to_string(free_port())};
  std::vector<std::unique_ptr<Program>> alone;  // rank 0 of one run, rank 1 of another, side by side
  for (const int here : {0, 1})
    alone.push_back(std::make_unique<Program>(train("missing" + std::to_string(here), {"--ddp_timeout", "3"}),
                                              torchrun_variables(here, 2, ports[here])));
  for (const int here : {0, 1}) {
    const Result result = alone[static_cast<std::size_t>(here)]->wait(20);
    EXPECT_EQ(result.code, 4) << result.err;
    EXPECT_GT(result.seconds, 2.5);
    EXPECT_LT(result.seconds, 12);
    // rank 1 can only say that nobody serves the address where rank 0 should be
    const std::string address = "127.0.0.1:" + ports[here];
    EXPECT_THAT(result.err, ContainsRegex(here == 0 ? "did not come to " + address + "[^\n]*: 1\n"
                                                    : "no rendezvous at " + address));
    EXPECT_EQ(times(result.err, "error:"), 1) << result.err;
    EXPECT_THAT(result.err, AllOf(Not(HasSubstr("frame #")), Not(HasSubstr("[c10d]"))));
  }
}

TEST_F(EngineProcess, NanNeverReachesTheWeights) {
  const Words wild = {"--optim",         "sgd", "--learning_rate", "1e6",
                      "--max_grad_norm", "0",   "--max_steps",     "50"};
  for (const Words& layout : {Words{}, Words{"--nproc", "2"}}) {
    const std::string output = layout.empty() ? "wild1" : "wild2";
    const Result result = run_program(train(output, wild + layout));
    EXPECT_EQ(result.code, 3) << result.err;
    EXPECT_EQ(times(result.err, "the step was not applied"), 1) << output << "\n" << result.err;
    EXPECT_THAT(result.err, HasSubstr("learning_rate"));
    EXPECT_FALSE(folder_.has(output + "/model.safetensors"));
  }
}

TEST_F(EngineProcess, TheFirstStepOfTwoRanksIsSoonThere) {
  Program run(train("speed", {"--nproc", "2", "--sequence_parallel_size", "2", "--max_steps", "1"}));
  ASSERT_TRUE(wait_until(20, [&] { return logged("speed") >= 1; })) << run.err();
  const double seconds = run.seconds();
  ASSERT_EQ(run.wait(20).code, 0);
  std::printf("start to end of the first step, tiny model, 2 ranks: %.2f s\n", seconds);
  RecordProperty("seconds_to_first_step", std::to_string(seconds));
  EXPECT_LT(seconds, 10);
}

}  // namespace
}  // namespace ithaca::testing_program
