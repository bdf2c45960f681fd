#include "ithaca/comm/wait.h"

#include <algorithm>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;

// When to say what is waited for.
class Notice {
 public:
  explicit Notice(std::chrono::milliseconds timeout) : timeout_(timeout) {}
  Clock::time_point next() const { return next_; }
  // Once `next` has come.
  std::string text(const std::string& what) {
    next_ = Clock::now() + kEvery;
    const auto so_far = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - begin_);
    return ithaca::str("waiting for ", what, ", ", so_far.count(), " s so far, at most ",
                       std::chrono::duration_cast<std::chrono::seconds>(timeout_).count(),
                       " s (ddp_timeout)");
  }

 private:
  static constexpr std::chrono::seconds kFirst{5}, kEvery{30};
  std::chrono::milliseconds timeout_;
  Clock::time_point begin_ = Clock::now(), next_ = begin_ + kFirst;
};

}  // namespace

bool wait_aloud(const std::function<bool()>& done, std::chrono::milliseconds timeout, const WaitHooks& hooks,
                const std::function<std::string()>& what) {
  const Clock::time_point deadline = Clock::now() + timeout;
  Notice notice(timeout);
  auto pause = std::chrono::milliseconds(1);
  while (!done()) {
    if (hooks.announced_failure) {
      if (const auto failure = hooks.announced_failure())
        throw CommunicationError("a rank failed: " + *failure);
    }
    const Clock::time_point now = Clock::now();
    if (now > deadline) return false;
    if (hooks.say && now >= notice.next()) hooks.say(notice.text(what()));
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(50));
  }
  return true;
}

WaitingAloud::WaitingAloud(std::string what, std::chrono::milliseconds timeout, const WaitHooks& hooks) {
  if (!hooks.say) return;
  speaker_ = std::thread([this, what = std::move(what), timeout, say = hooks.say] {
    Notice notice(timeout);
    std::unique_lock lock(mutex_);
    while (!over_changed_.wait_until(lock, notice.next(), [this] { return over_; })) say(notice.text(what));
  });
}

WaitingAloud::~WaitingAloud() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  over_changed_.notify_all();
  if (speaker_.joinable()) speaker_.join();
}

std::string rank_list(const std::vector<int>& ranks) {
  std::string text;
  for (std::size_t i = 0, last = 0; i < ranks.size(); i = last + 1) {
    for (last = i; last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1;) ++last;
    text += ithaca::str(i == 0 ? "" : ", ", ranks[i]);
    if (last > i) text += ithaca::str(last == i + 1 ? ", " : "-", ranks[last]);
  }
  return text;
}

}  // namespace ithaca
