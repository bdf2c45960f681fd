// SIGTERM and SIGINT as a question the training loop asks between steps.
#pragma once

namespace ithaca {

class StopSignal {
 public:
  // Blocks both signals for this thread and those it starts later: make it before any other thread exists.
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // True from the first signal on.
  bool requested();

 private:
  int fd_ = -1;
  bool requested_ = false;
};

}  // namespace ithaca
