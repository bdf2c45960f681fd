// Waiting for other ranks: in small steps, aloud, and not beyond a failure that one of them announces.
#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace ithaca {

// Both may be empty.
struct WaitHooks {
  std::function<std::optional<std::string>()> announced_failure;  // what a failing rank left
  // What this rank waits for: after 5 seconds, and then every 30.
  std::function<void(const std::string&)> say;
};

// Until `done`. False when the time is up. CommunicationError when a rank announces a failure meanwhile.
// `what`: "rank 3 at host:port", asked for each time it is said.
bool wait_aloud(const std::function<bool()>& done, std::chrono::milliseconds timeout, const WaitHooks& hooks,
                const std::function<std::string()>& what);

// Says the same while it lives, beside a call that blocks by itself for at most `timeout`.
class WaitingAloud {
 public:
  WaitingAloud(std::string what, std::chrono::milliseconds timeout, const WaitHooks& hooks);
  ~WaitingAloud();
  WaitingAloud(const WaitingAloud&) = delete;
  WaitingAloud& operator=(const WaitingAloud&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable over_changed_;
  bool over_ = false;
  std::thread speaker_;
};

// {0, 1, 2, 5}, ascending, as "0-2, 5".
std::string rank_list(const std::vector<int>& ranks);

}  // namespace ithaca
