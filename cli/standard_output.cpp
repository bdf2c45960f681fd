#include "cli/standard_output.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "ithaca/base/error.h"

namespace ithaca {

void finish_standard_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  const int cause = errno;
  if (cause == EPIPE) {
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  // An earlier write has failed and been forgotten where nothing is left to flush.
  throw UserError(str("standard output could not be written: ",
                      cause != 0 ? std::strerror(cause) : "disk full, or closed"));
}

}  // namespace ithaca
