// Every case runs in a process of its own, in which the signals are blocked before there is a thread.
#include "ithaca/train/stop_signal.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <future>
#include <thread>

namespace ithaca {
namespace {

using namespace std::chrono_literals;

// The exit code of a child that runs `body`; it has 20 seconds.
template <class Body>
int in_a_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class Watched {
 public:
  // What the end was called with; empty if it was not within `patience`.
  std::string end_within(std::chrono::milliseconds patience) {
    return future_.wait_for(patience) == std::future_status::ready ? future_.get() : "";
  }

 private:
  std::promise<std::string> ended_;
  std::future<std::string> future_ = ended_.get_future();

 public:
  StopSignal signal{[this](const std::string& why) { ended_.set_value(why); }};  // ends before the promise
};

TEST(StopSignal, ASignalBeforeTheWorkEndsTheProcessWithinSeconds) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    EXPECT_EQ(in_a_child([&] {
                Watched watched;
                if (watched.signal.requested()) return 1;
                kill(getpid(), number);
                if (!watched.signal.requested()) return 2;  // at once, whoever reads it first
                if (!watched.signal.ends_the_process()) return 3;
                return watched.end_within(10s).empty() ? 4 : 0;
              }),
              0)
        << number;
  }
}

TEST(StopSignal, OnceTheWorkBeganItIsAQuestion) {
  EXPECT_EQ(in_a_child([] {
              Watched watched;
              watched.signal.work_began();
              kill(getpid(), SIGTERM);
              if (!watched.signal.requested()) return 1;
              if (watched.signal.ends_the_process()) return 2;
              return watched.end_within(1500ms).empty() ? 0 : 3;
            }),
            0);
}

// The work may begin while the process that was told to stop clears up.
TEST(StopSignal, TheWorkMayBeginBeforeTheEnd) {
  EXPECT_EQ(in_a_child([] {
              Watched watched;
              kill(getpid(), SIGTERM);
              watched.signal.work_began();
              return watched.end_within(1500ms).empty() && watched.signal.requested() ? 0 : 1;
            }),
            0);
}

TEST(StopSignal, ASecondSignalEndsTheProcess) {
  EXPECT_EQ(in_a_child([] {
              Watched watched;
              watched.signal.work_began();
              kill(getpid(), SIGTERM);
              if (!watched.signal.requested()) return 1;
              std::this_thread::sleep_for(300ms);  // no echo any more
              kill(getpid(), SIGINT);
              if (watched.end_within(10s).find("second signal") == std::string::npos) return 2;
              return watched.signal.ends_the_process() ? 0 : 3;
            }),
            0);
}

TEST(StopSignal, AnIgnoredHangupIsLeftAlone) {
  EXPECT_EQ(in_a_child([] {
              std::signal(SIGHUP, SIG_IGN);
              Watched watched;
              kill(getpid(), SIGHUP);
              return watched.end_within(1500ms).empty() && !watched.signal.requested() ? 0 : 1;
            }),
            0);
}

TEST(StopSignal, AnyThreadMayAsk) {
  EXPECT_EQ(in_a_child([] {
              Watched watched;
              std::atomic<int> heard = 0;
              std::vector<std::thread> threads;
              for (int i = 0; i < 4; ++i)
                threads.emplace_back([&] {
                  while (!watched.signal.requested()) std::this_thread::yield();
                  ++heard;
                });
              kill(getpid(), SIGTERM);
              for (std::thread& thread : threads) thread.join();
              return heard == 4 ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace ithaca
