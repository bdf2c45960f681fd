// Whom long work answers to: the run that opens a corpus.
#pragma once
#include <functional>
#include <string>

#include "ithaca/base/error.h"

namespace ithaca {

// Called between pieces of work of some milliseconds, in whatever thread it runs: throws where the work is to be given
// up, else returns at once.
using Poll = std::function<void()>;

// Both may be empty. They are called on the thread that opens the corpus only, stop_requested several times a second.
struct Host {
  std::function<bool()> stop_requested = {};
  std::function<void(const std::string&)> say = {};  // a line for the log

  // Throws Stopped once a stop is asked for. `doing`: "FILE is tokenised".
  void poll(const std::string& doing) const {
    if (stop_requested && stop_requested())
      throw Stopped(
          str("stopped while ", doing, "; nothing is left half done, the same command starts anew"));
  }
  void tell(const std::string& line) const {
    if (say) say(line);
  }
};

}  // namespace ithaca
