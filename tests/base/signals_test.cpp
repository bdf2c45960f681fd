#include "ithaca/base/signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace ithaca {
namespace {

using namespace std::chrono_literals;

struct Signal {
  std::chrono::milliseconds at;
  bool from_parent;
};

bool again(const std::vector<Signal>& signals) {
  StopRequests requests;
  const StopRequests::Clock::time_point start{};
  for (const Signal& signal : signals) {
    requests.note(signal.from_parent, start + signal.at);
    EXPECT_TRUE(requests.any());
    EXPECT_EQ(requests.first(), start + signals.front().at);
  }
  return requests.again();
}

TEST(StopRequests, ASecondWishIsNotAnEchoOfTheFirst) {
  EXPECT_FALSE(StopRequests().any());
  EXPECT_FALSE(again({{0ms, false}}));
  EXPECT_TRUE(again({{0ms, false}, {400ms, false}}));
  EXPECT_TRUE(again({{0ms, true}, {400ms, true}}));
  // `timeout` signals its child, then the child's group
  EXPECT_FALSE(again({{0ms, true}, {5ms, true}}));
  EXPECT_TRUE(again({{0ms, true}, {5ms, true}, {900ms, true}}));
  // from Slurm, and from the launcher that had it from Slurm
  EXPECT_FALSE(again({{0ms, false}, {900ms, true}}));
  EXPECT_TRUE(again({{0ms, false}, {900ms, true}, {1500ms, false}}));
  EXPECT_TRUE(again({{0ms, false}, {4000ms, true}}));
}

// In a child: dispositions are the whole process's.
template <class Body>
int in_a_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(Signals, WhatAParentLeftIsMended) {
  EXPECT_EQ(in_a_child([] {
              std::signal(SIGCHLD, SIG_IGN);
              set_signal_dispositions();
              const pid_t grandchild = fork();
              if (grandchild == 0) _exit(7);
              int status = 0;
              if (waitpid(grandchild, &status, 0) != grandchild) return 1;
              std::raise(SIGPIPE);
              std::raise(SIGXFSZ);
              return WEXITSTATUS(status);
            }),
            7);
}

TEST(Signals, AProgramWithNothingToSaveEndsAsStopped) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP})
    EXPECT_EQ(in_a_child([&] {
                std::signal(signal, SIG_DFL);  // this program may run under nohup
                end_when_stopped();
                std::raise(signal);
                return 0;
              }),
              75);
}

TEST(Signals, HangupStopsUnlessItIsIgnored) {
  const auto has_hangup = [] {
    const sigset_t signals = stop_signals();
    return sigismember(&signals, SIGTERM) == 1 && sigismember(&signals, SIGINT) == 1
               ? sigismember(&signals, SIGHUP)
               : 9;
  };
  EXPECT_EQ(in_a_child([&] {
              std::signal(SIGHUP, SIG_DFL);
              return has_hangup();
            }),
            1);
  EXPECT_EQ(in_a_child([&] {
              std::signal(SIGHUP, SIG_IGN);  // nohup
              return has_hangup();
            }),
            0);
}

}  // namespace
}  // namespace ithaca
