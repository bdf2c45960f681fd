// Children are /bin/sh scripts; every run must end within its bound.
#include "ithaca/launch/spawn.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <sstream>
#include <thread>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

struct Outcome {
  int code;
  std::string summary;
  double seconds;
};

SpawnOptions shell(int nproc, const std::string& script, double grace = 0.5) {
  SpawnOptions options;
  options.nproc = nproc;
  options.threads_per_rank = 3;
  options.program = "/bin/sh";
  options.arguments = {"-c", script};
  options.grace_seconds = grace;
  return options;
}

Outcome run(const SpawnOptions& options) {
  const Clock::time_point start = Clock::now();
  testing::internal::CaptureStderr();
  const int code = spawn_ranks(options);
  const std::string summary = testing::internal::GetCapturedStderr();
  return {code, summary, std::chrono::duration<double>(Clock::now() - start).count()};
}

class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("ithaca_spawn_" + std::to_string(getpid()))) {
    std::filesystem::create_directory(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ / name; }
  std::string read(const std::string& name) const {
    std::ifstream file(path_ / name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

 private:
  std::filesystem::path path_;
};

TEST(Spawn, EveryRankGetsItsEnvironment) {
  const Folder folder;
  unsetenv("OMP_WAIT_POLICY");
  setenv("GOMP_SPINCOUNT", "17", 1);
  const Outcome outcome = run(shell(
      3,
      "echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $OMP_NUM_THREADS $OMP_WAIT_POLICY "
      "$GOMP_SPINCOUNT > " +
          (folder / "env") +
          "$RANK; "
          "if [ $RANK = 0 ]; then readlink /proc/self/fd/$ITHACA_LISTEN_FD > " +
          (folder / "socket") +
          "; "
          "else test -z \"$ITHACA_LISTEN_FD\"; fi"));
  unsetenv("GOMP_SPINCOUNT");
  EXPECT_EQ(outcome.code, 0) << outcome.summary;
  EXPECT_EQ(outcome.summary, "");
  EXPECT_EQ(folder.read("env0"), "0 3 0 3 127.0.0.1 3 passive 17\n");
  EXPECT_EQ(folder.read("env2"), "2 3 2 3 127.0.0.1 3 passive 17\n");
  EXPECT_THAT(folder.read("socket"), HasSubstr("socket:"));
}

TEST(Spawn, ExitCodes) {
  EXPECT_EQ(run(shell(2, "exit 0")).code, 0);
  EXPECT_EQ(run(shell(2, "exit 75")).code, 75);
  EXPECT_EQ(run(shell(2, "exit 3")).code, 3);
  EXPECT_EQ(run(shell(2, "test $RANK = 0 || kill -9 $$")).code, 128 + 9);
}

TEST(Spawn, AFailingRankEndsTheOthersAndIsNamedOnce) {
  const Outcome outcome = run(shell(3, "if [ $RANK = 1 ]; then exit 3; fi; exec sleep 60"));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.summary, AllOf(HasSubstr("rank 1 of 3 failed (exit code 3, numbers went wrong)"),
                                     HasSubstr("2 other rank(s) did not end")));
  EXPECT_GE(outcome.seconds, 0.5);
  EXPECT_LT(outcome.seconds, 10);
}

TEST(Spawn, ARankThatFollowsAnothersFailureIsNotBlamed) {
  // Both have ended before the parent looks: rank 0 with "a rank failed", rank 1 by a signal.
  const Outcome outcome = run(shell(2, "if [ $RANK = 1 ]; then kill -KILL $$; fi; exit 4"));
  EXPECT_EQ(outcome.code, 137);
  EXPECT_THAT(outcome.summary, AllOf(HasSubstr("rank 1 of 2"), HasSubstr("killed by signal 9 (Killed))")));
}

TEST(Spawn, TheSummaryHasTheCauseThatTheRankLeft) {
  const Outcome outcome = run(shell(
      2, "echo '{\"message\": {\"message\": \"the disk is full\"}}' > $TORCHELASTIC_ERROR_FILE; exit 2"));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.summary, HasSubstr("the disk is full"));
}

TEST(Spawn, ARanksOwnNumberIsNotToldTwice) {
  const Outcome outcome =
      run(shell(2,
                "test $RANK = 0 || { echo '{\"message\": {\"message\": \"rank 1: the loss "
                "is NaN\"}}' > $TORCHELASTIC_ERROR_FILE; exit 3; }"));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_EQ(outcome.summary,
            "ithaca: rank 1 of 2 failed (exit code 3, numbers went wrong): the loss is NaN\n");
}

TEST(Spawn, ARankThatCannotLeaveACauseIsNamed) {
  const Outcome outcome = run(shell(2,
                                    "test $RANK = 0 || { mkdir $TORCHELASTIC_ERROR_FILE; echo lost > "
                                    "$TORCHELASTIC_ERROR_FILE/x; exit 3; }"));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_EQ(outcome.summary, "ithaca: rank 1 of 2 failed (exit code 3, numbers went wrong)\n");
}

TEST(Spawn, AMistakeThatAllRanksFindIsToldOnceWithoutARank) {
  const auto leave = [](const std::string& text) {
    return "echo \"{\\\"message\\\": {\\\"message\\\": \\\"" + text +
           "\\\"}}\" > $TORCHELASTIC_ERROR_FILE; exit 2";
  };
  const Outcome same = run(shell(3, leave("rank $RANK: config.json is missing")));
  EXPECT_EQ(same.code, 2);
  EXPECT_EQ(same.summary, "ithaca: error: config.json is missing\n");
  const Outcome other = run(shell(3, leave("rank $RANK: shard $RANK is missing")));
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.summary,
              testing::MatchesRegex("ithaca: rank ([0-2]) of 3 failed .exit code 2, a mistake in "
                                    "settings or files.: shard [0-2] is missing\n"));
}

// A rank that gets both signals before it could have asked for them.
SpawnOptions signalled(const Folder& folder, const std::string& command) {
  SpawnOptions options = shell(1, "");
  options.program = folder / "engine";
  options.arguments = {command};
  std::ofstream(options.program) << "#!/bin/sh\nkill -TERM $$\nkill -INT $$\nexit 75\n";
  std::filesystem::permissions(options.program, std::filesystem::perms::owner_all);
  return options;
}

TEST(Spawn, StopSignalsWaitForAnEngineThatIsStillLoading) {
  const Folder folder;
  EXPECT_EQ(run(signalled(folder, "train")).code, 75);
  EXPECT_EQ(run(signalled(folder, "eval")).code, 75);
  EXPECT_EQ(run(signalled(folder, "other")).code, 128 + SIGTERM);
}

TEST(Spawn, SigtermIsForwarded) {
  const Folder folder;
  const pid_t pid = fork();  // the ranks' parent
  if (pid == 0)
    _exit(spawn_ranks(
        shell(2, "trap 'kill $!; exit 75' TERM; sleep 60 & : > " + (folder / "ready") + "$RANK; wait")));
  for (int tries = 0; tries < 1000; ++tries) {
    if (std::filesystem::exists(folder / "ready0") && std::filesystem::exists(folder / "ready1")) break;
    std::this_thread::sleep_for(10ms);
  }
  const Clock::time_point start = Clock::now();
  kill(pid, SIGTERM);
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 75);
  EXPECT_LT(Clock::now() - start, 10s);
}

// What spawn_ranks returns and prints in a process of its own, which `prepare` changes first.
struct Ended {
  int code = -1;
  std::string summary;
};
Ended run_apart(const SpawnOptions& options, const std::function<void()>& prepare) {
  const Folder folder;
  const pid_t pid = fork();
  if (pid == 0) {
    const int file = open((folder / "summary").c_str(), O_WRONLY | O_CREAT, 0600);
    dup2(file, STDERR_FILENO);
    prepare();
    try {
      _exit(spawn_ranks(options));
    } catch (const Error& error) {
      std::cerr << error.what() << std::endl;
      _exit(error.code());
    }
  }
  int status = 0;
  for (int tries = 0; tries < 2000; ++tries) {
    if (waitpid(pid, &status, WNOHANG) == pid)
      return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), folder.read("summary")};
    std::this_thread::sleep_for(10ms);
  }
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  return {-1, "still running after 20 s"};
}

TEST(Spawn, EndsOfRanksAreKnownWhereSigchldIsInheritedAsIgnored) {
  const auto ignore = [] { std::signal(SIGCHLD, SIG_IGN); };
  EXPECT_EQ(run_apart(shell(2, "exit 0"), ignore).code, 0);
  const Ended failed = run_apart(shell(2, "test $RANK = 0 || exit 3"), ignore);
  EXPECT_EQ(failed.code, 3);
  EXPECT_THAT(failed.summary, HasSubstr("rank 1 of 2 failed"));
}

TEST(Spawn, AMissingTmpdirIsNamed) {
  const Ended missing = run_apart(shell(1, "exit 0"), [] { setenv("TMPDIR", "/nowhere/ithaca", 1); });
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.summary, AllOf(HasSubstr("TMPDIR is /nowhere/ithaca"), HasSubstr("Set TMPDIR")));
}

TEST(Spawn, RanksThatAreStoppedTakeTheOthersWithThemQuietly) {
  const auto leave = [](int code, const std::string& text) {
    return "echo '{\"message\": {\"message\": \"" + text + "\"}}' > $TORCHELASTIC_ERROR_FILE; exit " +
           std::to_string(code);
  };
  const Outcome outcome = run(
      shell(2, "test $RANK = 1 || { " + leave(75, "stopped by a signal") + "; }; " + leave(4, "no answer")));
  EXPECT_EQ(outcome.code, 75);
  EXPECT_EQ(outcome.summary, "ithaca: stopped by a signal\n");
}

// The parent of ranks that hear no signal, once they run.
pid_t parent_of_the_deaf(const Folder& folder, int ranks) {
  const pid_t pid = fork();
  if (pid == 0)
    _exit(spawn_ranks(shell(ranks, "trap '' TERM INT; echo $$ > " + (folder / "pid$RANK.new") + "; mv " +
                                       (folder / "pid$RANK.new") + " " + (folder / "pid$RANK") +
                                       "; while :; do sleep 0.1; done")));
  for (int rank = 0; rank < ranks; ++rank)
    for (int tries = 0; tries < 1000 && folder.read("pid" + std::to_string(rank)).empty(); ++tries)
      std::this_thread::sleep_for(10ms);
  return pid;
}

TEST(Spawn, ASecondSignalEndsRanksThatHearNone) {
  const Folder folder;
  const pid_t pid = parent_of_the_deaf(folder, 2);
  ASSERT_EQ(kill(pid, SIGTERM), 0);
  std::this_thread::sleep_for(400ms);
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), 0) << "one signal is not enough";
  ASSERT_EQ(kill(pid, SIGTERM), 0);
  const Clock::time_point start = Clock::now();
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_LT(Clock::now() - start, 10s);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 75);
  for (const char* rank : {"pid0", "pid1"})
    EXPECT_NE(kill(std::stoi(folder.read(rank)), 0), 0) << "an orphan";
}

TEST(Spawn, ChildrenDieWithTheirParent) {
  const Folder folder;
  const pid_t pid = fork();
  if (pid == 0)
    _exit(spawn_ranks(shell(1, "echo $$ > " + (folder / "pid.new") + "; mv " + (folder / "pid.new") + " " +
                                   (folder / "pid") + "; exec sleep 60")));
  for (int tries = 0; tries < 1000 && !std::filesystem::exists(folder / "pid"); ++tries)
    std::this_thread::sleep_for(10ms);
  const pid_t child = std::stoi(folder.read("pid"));
  EXPECT_EQ(kill(child, 0), 0);
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  bool gone = false;
  for (int tries = 0; tries < 500 && !gone; ++tries) {
    std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
    std::string number, name, state;
    gone = !(stat >> number >> name >> state) || state == "Z";
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_TRUE(gone);
}

TEST(Spawn, BadOptionsAreRefused) {
  EXPECT_THROW(spawn_ranks(shell(0, "true")), UserError);
  SpawnOptions options = shell(1, "true");
  options.program = "/nowhere/ithaca-engine";
  EXPECT_THAT(
      [&] { spawn_ranks(options); },
      testing::ThrowsMessage<UserError>(HasSubstr("cannot run /nowhere/ithaca-engine: No such file")));
  EXPECT_THROW(exec_engine(options), UserError);
}

TEST(ExecEngine, ReplacesTheProcessAndKeepsTheUsersThreads) {
  const Folder folder;
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("OMP_NUM_THREADS", "9", 1);
    unsetenv("GOMP_SPINCOUNT");
    exec_engine(shell(1, "echo $OMP_NUM_THREADS $GOMP_SPINCOUNT > " + (folder / "out") + "; exit 5"));
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 5);
  EXPECT_EQ(folder.read("out"), "9 0\n");
}

// OMP_NUM_THREADS as the program sees it.
std::string threads_under(const char* run_id, const char* threads) {
  const Folder folder;
  const pid_t pid = fork();
  if (pid == 0) {
    unsetenv("TORCHELASTIC_RUN_ID");
    if (run_id) setenv("TORCHELASTIC_RUN_ID", run_id, 1);
    setenv("OMP_NUM_THREADS", threads, 1);
    exec_engine(shell(1, "echo $OMP_NUM_THREADS > " + (folder / "out")));
  }
  waitpid(pid, nullptr, 0);
  return folder.read("out");
}

TEST(ExecEngine, TorchrunsOwnSingleThreadGivesWay) {
  EXPECT_EQ(threads_under("none", "1"), "3\n");
  EXPECT_EQ(threads_under("none", "2"), "2\n");
  EXPECT_EQ(threads_under(nullptr, "1"), "1\n");
}

TEST(ExecEngine, StopSignalsWaitForAnEngineThatIsStillLoading) {
  const Folder folder;
  const auto status_of = [&](const std::string& command) {
    const SpawnOptions options = signalled(folder, command);
    const pid_t pid = fork();
    if (pid == 0) exec_engine(options);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  };
  EXPECT_EQ(status_of("train"), 75);
  EXPECT_EQ(status_of("generate"), 75);
  EXPECT_EQ(status_of("other"), 128 + SIGTERM);
}

}  // namespace
}  // namespace ithaca
