// Runs that are told to stop: before the first step, twice, by a terminal that goes away, by a reader that does.
#include <gmock/gmock.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <memory>

#include "tests/cli/tiny_engine.h"

namespace ithaca::testing_program {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

constexpr double kAtOnce = 15;  // about 1 s, and what a busy machine takes to load the engine

class Stop : public testing::Test {
 protected:
  // Seconds from the signal to the end; the run must have ended with 75.
  double ends_after(Program& run, int signal, Result* result = nullptr) {
    const double sent = run.seconds();
    run.send(signal);
    const Result end = run.wait(30);
    EXPECT_EQ(end.code, 75) << end.err;
    if (result) *result = end;
    return end.seconds - sent;
  }
  bool logged(const std::string& output, std::size_t lines) const {
    return folder_.has(output + "/trainer_log.jsonl") && losses(folder_, output).size() >= lines;
  }
  // A text that takes a while to tokenise.
  void write_long_text(const std::string& name) const {
    std::string text;
    const std::string part = folder_.read("train.txt");
    while (text.size() < (std::size_t{48} << 20)) text += part;
    folder_.write(name, text);
  }
  bool is_engine(pid_t pid) const {
    std::error_code error;
    return fs::read_symlink("/proc/" + std::to_string(pid) + "/exe", error).filename() == "ithaca-engine";
  }
  // Whether a handler of its own, or a mask, keeps the signal from killing the process.
  static bool hears(pid_t pid, int signal) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string key; status >> key;) {
      std::string mask;
      if ((key == "SigBlk:" || key == "SigCgt:") && status >> mask &&
          (std::stoull(mask, nullptr, 16) >> (signal - 1) & 1) != 0)
        return true;
    }
    return false;
  }
  std::size_t entries(const std::string& name) const {
    std::error_code error;
    const fs::directory_iterator begin(folder_.path(name), error);
    return error ? 0 : static_cast<std::size_t>(std::distance(begin, fs::directory_iterator()));
  }

  TinyFolder folder_;
};

TEST_F(Stop, WhileRanksAreAwaited) {
  struct Waiting {
    int rank, signal;
    std::unique_ptr<Program> run;
  };
  std::vector<Waiting> all;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP})
    for (const int rank : {0, 1}) {
      const std::string output = "out" + std::to_string(signal) + std::to_string(rank);
      all.push_back({rank, signal,
                     std::make_unique<Program>(train_words(folder_, output),
                                               torchrun_variables(rank, 2, std::to_string(free_port())))});
    }
  for (Waiting& one : all) {
    ASSERT_TRUE(wait_until(20, [&] { return is_engine(one.run->pid()); }));
    Result result;
    EXPECT_LT(ends_after(*one.run, one.signal, &result), kAtOnce) << one.rank << " " << one.signal;
    EXPECT_EQ(times(result.err, "stopped by a signal"), one.rank == 0 ? 1 : 0) << result.err;
    EXPECT_THAT(result.err, Not(HasSubstr("error")));
  }
}

// However early, in the front program and in the engine that loads: from the moment it looks after its signals.
TEST_F(Stop, AtAnyMomentOfTheStart) {
  for (const Words& layout : {Words{}, Words{"--nproc", "2"}})
    for (const int milliseconds : {0, 10, 30, 100, 300}) {
      Program run(train_words(folder_, "out", layout + Words{"--max_steps", "100000"}));
      ASSERT_TRUE(wait_until(20, [&] { return hears(run.pid(), SIGTERM); })) << run.err();
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
      EXPECT_LT(ends_after(run, SIGTERM), kAtOnce) << milliseconds;
      fs::remove_all(folder_.path("out"));
    }
}

TEST_F(Stop, WhileTextIsTokenised) {
  write_long_text("long.txt");
  for (const Words& layout : {Words{}, Words{"--nproc", "2"}}) {
    const std::string output = layout.empty() ? "one" : "two";
    Program run(train_words(folder_, output,
                            layout + Words{"--train_file", folder_.path("long.txt"), "--cache_dir",
                                           folder_.path(output + "cache")}));
    ASSERT_TRUE(wait_until(20, [&] { return entries(output + "cache") > 0; })) << run.err();
    Result result;
    EXPECT_LT(ends_after(run, SIGTERM, &result), kAtOnce) << output;
    EXPECT_EQ(times(result.err, "stopped"), 1) << result.err;
    EXPECT_FALSE(folder_.has(output + "/trainer_log.jsonl")) << "something was trained";
    EXPECT_FALSE(folder_.has(output + "/model.safetensors"));
  }
}

TEST_F(Stop, AnEvaluationLeavesNothingHalfDone) {
  ASSERT_EQ(run_program(train_words(folder_, "model2")).code, 0);
  write_long_text("long.txt");
  Program run({ITHACA_PROGRAM, "eval", "--model_name_or_path", folder_.path("model2"), "--eval_file",
               folder_.path("long.txt"), "--cutoff_len", "31", "--output_dir", folder_.path("eval")});
  ASSERT_TRUE(wait_until(20, [&] { return folder_.has("eval/logs/rank_0.log"); }));
  EXPECT_LT(ends_after(run, SIGTERM), kAtOnce);
  EXPECT_FALSE(folder_.has("eval/eval_results.json"));
}

// Rank 1 stands still, so that rank 0 can neither finish its step nor save.
TEST_F(Stop, ASecondSignalEndsARunThatCannotSave) {
  Program run(train_words(folder_, "out", {"--nproc", "2", "--max_steps", "100000"}));
  ASSERT_TRUE(wait_until(20, [&] { return logged("out", 2); })) << run.err();
  const std::vector<pid_t> ranks = children_of(run.pid());
  ASSERT_EQ(ranks.size(), 2u);
  ASSERT_EQ(kill(ranks[1], SIGSTOP), 0);
  run.send(SIGTERM);
  EXPECT_FALSE(wait_until(2, [&] { return run.ended(); })) << "one signal is a question";
  EXPECT_LT(ends_after(run, SIGTERM), 12);
  for (const pid_t rank : ranks) EXPECT_TRUE(wait_until(5, [&] { return !is_running(rank); })) << "an orphan";
}

TEST_F(Stop, AHangupSavesUnlessItIsIgnored) {
  Program stopped(train_words(folder_, "stopped", {"--max_steps", "100000", "--save_steps", "0"}));
  ASSERT_TRUE(wait_until(20, [&] { return logged("stopped", 2); })) << stopped.err();
  Result result;
  ends_after(stopped, SIGHUP, &result);
  EXPECT_THAT(result.err, HasSubstr("stopped by a signal after step"));
  Program going({"/bin/sh", "-c",
                 "trap '' HUP; exec " + quoted(train_words(folder_, "going", {"--max_steps", "400"}))});
  ASSERT_TRUE(wait_until(20, [&] { return logged("going", 2); })) << going.err();
  going.send(SIGHUP);
  EXPECT_EQ(going.wait(60).code, 0) << going.err();
}

TEST_F(Stop, AReaderOfTheLogMayGo) {
  for (const Words& layout : {Words{}, Words{"--nproc", "2"}}) {
    const std::string output = layout.empty() ? "one" : "two";
    const Result result =
        run_program({"/bin/bash", "-c",
                     quoted(train_words(folder_, output, layout + Words{"--max_steps", "30"})) +
                         " 2>&1 | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}"},
                    {}, 60);
    EXPECT_EQ(result.code, 0) << output << result.err;
    EXPECT_TRUE(folder_.has(output + "/model.safetensors"));
  }
}

// ithaca train ... 2>&1 | tee log, and Ctrl-C: the reader dies first.
TEST_F(Stop, CtrlCWithTeeSaves) {
  for (const Words& layout : {Words{}, Words{"--nproc", "2"}}) {
    const std::string output = layout.empty() ? "one" : "two";
    Program shell({"/bin/bash", "-c",
                   quoted(train_words(folder_, output, layout + Words{"--max_steps", "100000"})) +
                       " 2>&1 | tee " + folder_.path(output + ".log") +
                       " >/dev/null; exit ${PIPESTATUS[0]}"});
    ASSERT_TRUE(wait_until(20, [&] { return logged(output, 2); })) << shell.err();
    const std::vector<pid_t> children = children_of(shell.pid());  // ours, tee
    ASSERT_EQ(children.size(), 2u);
    ASSERT_EQ(kill(children[1], SIGINT), 0);
    ASSERT_TRUE(wait_until(10, [&] { return !is_running(children[1]); }));
    ASSERT_EQ(kill(children[0], SIGINT), 0);
    const Result result = shell.wait(30);
    EXPECT_EQ(result.code, 75) << result.err;
    int checkpoints = 0;
    for (const auto& entry : fs::directory_iterator(folder_.path(output)))
      checkpoints += fs::exists(entry.path() / "integrity.json") ? 1 : 0;
    EXPECT_EQ(checkpoints, 1) << output;
  }
}

TEST_F(Stop, ResultsIntoADeadPipeEndQuietlyIntoAFullDiskNot) {
  ASSERT_EQ(run_program(train_words(folder_, "model2")).code, 0);
  const Words generate = {ITHACA_PROGRAM, "generate", "--model_name_or_path", folder_.path("model2"),
                          "--prompt",     "verse 3",  "--max_new_tokens",     "4"};
  const Words tokenize = {ITHACA_PROGRAM, "tokenize", folder_.path("model2"), folder_.path("train.txt")};
  for (const Words& words : {generate, tokenize}) {
    const Result dead =
        run_program({"/bin/bash", "-c",
                     "{ sleep 0.1; " + quoted(words) + "; echo $? >" + folder_.path("code") + "; } | true"});
    EXPECT_EQ(folder_.read("code"), "141\n") << words[1];
    EXPECT_EQ(dead.err, "") << words[1];
    const Result full = run_program({"/bin/bash", "-c", quoted(words) + " >/dev/full"});
    EXPECT_EQ(full.code, 2) << words[1] << full.err;
    EXPECT_THAT(full.err, AllOf(HasSubstr("error"), HasSubstr("output"))) << words[1];
  }
}

}  // namespace
}  // namespace ithaca::testing_program
