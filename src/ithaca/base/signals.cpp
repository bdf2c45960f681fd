#include "ithaca/base/signals.h"

namespace ithaca {

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

}  // namespace ithaca
