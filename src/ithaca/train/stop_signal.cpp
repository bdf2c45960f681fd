#include "ithaca/train/stop_signal.h"

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

#include "ithaca/base/error.h"

namespace ithaca {

StopSignal::StopSignal() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ITHACA_CHECK(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0);
  fd_ = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  ITHACA_CHECK(fd_ >= 0);
}

StopSignal::~StopSignal() {
  ::close(fd_);
}

bool StopSignal::requested() {
  signalfd_siginfo info;
  while (::read(fd_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) requested_ = true;
  return requested_;
}

}  // namespace ithaca
