// SIGTERM, SIGINT and SIGHUP (unless it is ignored, as under nohup) as a question the program asks between
// its steps, and, where it cannot ask or is asked a second time, as the end of the process.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "ithaca/base/signals.h"

namespace ithaca {

class StopSignal {
 public:
  // Ends the process, saying why (docs/architecture.md, "Signals"). Called once, by a thread of this class.
  using End = std::function<void(const std::string& why)>;

  // Blocks the signals for this thread and those it starts later: make it before any other thread exists.
  // `end` empty: only the question is answered, nothing ends the process.
  explicit StopSignal(End end = {});
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // True from the first signal on. Any thread may ask.
  bool requested();
  // From now on there is something to save: a first signal only makes requested() true. Before, it ends the
  // process, after a second in which whoever asks can clear up and leave by himself. A second signal always
  // ends the process.
  void work_began();
  // Whether the process is to end without saving: asked to stop before the work began, or a second time.
  bool ends_the_process();

 private:
  struct Ending {
    std::optional<StopRequests::Clock::time_point> at;  // look again then
    std::string why;                                    // not empty: now
  };
  void take_signals();  // with mutex_ held
  Ending ending();
  void watch();
  void wake();

  End end_;
  int fd_ = -1, wake_fd_ = -1;
  std::mutex mutex_;
  StopRequests requests_;
  bool work_began_ = false;
  std::atomic<bool> closing_ = false;
  std::thread watcher_;
};

}  // namespace ithaca
