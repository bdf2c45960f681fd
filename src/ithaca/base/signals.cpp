#include "ithaca/base/signals.h"

#include <unistd.h>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

void end_now(int) {
  constexpr char kText[] = "ithaca: stopped by a signal\n";
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, kText, sizeof kText - 1);
  _exit(kStoppedAndSaved);
}

}  // namespace

void set_signal_dispositions() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;  // without SA_NOCLDWAIT
  sigaction(SIGCHLD, &by_default, nullptr);
}

sigset_t stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&signals, SIGHUP);
  return signals;
}

void end_when_stopped() {
  const sigset_t signals = stop_signals();
  struct sigaction action {};
  action.sa_handler = end_now;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP})
    if (sigismember(&signals, signal) == 1) sigaction(signal, &action, nullptr);
}

}  // namespace ithaca
