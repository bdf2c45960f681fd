#include "ithaca/train/stop_signal.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using Clock = StopRequests::Clock;

constexpr std::chrono::seconds kToClearUp(1);  // a token cache's temporary file is removed in that time

}  // namespace

StopSignal::StopSignal(End end) : end_(std::move(end)) {
  const sigset_t signals = stop_signals();
  ITHACA_CHECK(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0);
  fd_ = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  ITHACA_CHECK(fd_ >= 0 && wake_fd_ >= 0);
  if (end_) watcher_ = std::thread([this] { watch(); });
}

StopSignal::~StopSignal() {
  closing_ = true;
  wake();
  if (watcher_.joinable()) watcher_.join();
  ::close(fd_);
  ::close(wake_fd_);
}

bool StopSignal::requested() {
  const std::lock_guard lock(mutex_);
  take_signals();
  return requests_.any();
}

void StopSignal::work_began() {
  const std::lock_guard lock(mutex_);
  work_began_ = true;
}

bool StopSignal::ends_the_process() {
  const std::lock_guard lock(mutex_);
  take_signals();
  return requests_.again() || (requests_.any() && !work_began_);
}

void StopSignal::take_signals() {
  signalfd_siginfo info;
  bool taken = false;
  while (::read(fd_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    requests_.note(static_cast<pid_t>(info.ssi_pid) == getppid(), Clock::now());
    taken = true;
  }
  if (taken) wake();  // the watcher may be asleep on what has just been read
}

void StopSignal::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored =
      ::write(wake_fd_, &one, sizeof one);  // a full counter wakes as well
}

StopSignal::Ending StopSignal::ending() {
  const std::lock_guard lock(mutex_);
  take_signals();
  if (requests_.again())
    return {{},
            work_began_ ? "stopped by a second signal, without saving; the newest checkpoint stands"
                        : "stopped by a signal"};
  if (!requests_.any() || work_began_) return {};
  const Clock::time_point at = requests_.first() + kToClearUp;
  if (Clock::now() >= at) return {{}, "stopped by a signal; there was nothing to save yet"};
  return {at, ""};
}

void StopSignal::watch() {
  while (!closing_) {
    const Ending now = ending();
    if (!now.why.empty()) {
      end_(now.why);
      return;
    }
    int milliseconds = -1;
    if (now.at)
      milliseconds = static_cast<int>(
          std::max<int64_t>(1, std::chrono::ceil<std::chrono::milliseconds>(*now.at - Clock::now()).count()));
    pollfd ready[2] = {{fd_, POLLIN, 0}, {wake_fd_, POLLIN, 0}};
    poll(ready, 2, milliseconds);
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t ignored = ::read(wake_fd_, &count, sizeof count);
  }
}

}  // namespace ithaca
