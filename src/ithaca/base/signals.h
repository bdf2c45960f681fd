// Signals, as every process of a run treats them: what its parent left to it, what stops it, and whether it was
// asked twice.
#pragma once
#include <array>
#include <chrono>
#include <csignal>

namespace ithaca {

// SIGPIPE and SIGXFSZ are ignored: a reader of our log that goes away, or a file that may not grow, is an
// error of that write (EPIPE, EFBIG) and not the end of the run. SIGCHLD gets its default back: where it is
// inherited as ignored the kernel reaps children itself, and nobody learns how they ended.
void set_signal_dispositions();

// What stops a run: SIGTERM, SIGINT, and SIGHUP unless it is ignored (nohup).
sigset_t stop_signals();

// From now on a stop signal ends this process with kStoppedAndSaved and a word on standard error: for a program
// that has nothing to save yet. Until exec, or until the signals are blocked.
void end_when_stopped();

// Tells a second wish to stop from the same wish that comes twice. `timeout` signals its child and then the
// child's whole group; Slurm may signal a launcher and what it started, and the launcher hands the signal on: that
// is one request. Whoever presses Ctrl-C again means it.
class StopRequests {
 public:
  using Clock = std::chrono::steady_clock;

  // A signal came, sent by the parent or by somebody else.
  void note(bool from_parent, Clock::time_point now) {
    Side& side = sides_[from_parent ? 1 : 0];
    if (!any()) first_ = now;
    if (side.count > 0 && now - side.last < kEcho) return;
    ++side.count;
    side.last = now;
    if (side.count > 1 || now - first_ > kRelay) again_ = any_ || again_;
    any_ = true;
  }
  bool any() const { return any_; }
  bool again() const { return again_; }  // asked a second time
  Clock::time_point first() const { return first_; }

 private:
  struct Side {
    int count = 0;
    Clock::time_point last;
  };
  static constexpr std::chrono::milliseconds kEcho{250};  // of one sender: the same request
  static constexpr std::chrono::seconds kRelay{3};        // of the other sender: it was handed on

  std::array<Side, 2> sides_;
  Clock::time_point first_;
  bool any_ = false, again_ = false;
};

}  // namespace ithaca
