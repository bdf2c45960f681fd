#include "ithaca/data/cache_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <string_view>
#include <thread>

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPollInterval{50};
constexpr std::chrono::seconds kFirstRemark{5}, kNextRemarks{60};

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "an unknown host";
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  std::array<char, 32> text{};
  ::localtime_r(&now, &parts);
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  return text.data();
}

}  // namespace

CacheLock::CacheLock(const std::filesystem::path& path, const std::string& doing, const Host& host)
    : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  if (fd_ < 0)
    throw UserError(str(path.string(), ": the cache folder cannot be written (", std::strerror(errno),
                        "); set cache_dir to another"));
  try {
    wait(path.string(), doing, host);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

CacheLock::~CacheLock() {
  ::close(fd_);
}

void CacheLock::wait(const std::string& path, const std::string& doing, const Host& host) {
  Clock::time_point remark = Clock::now() + kFirstRemark;
  while (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      host.tell(str(path, ": this file system has no locks (", std::strerror(errno), "), so ", doing,
                    " by every rank for itself; a cache_dir on a local disk saves that"));
      return;
    }
    host.poll(doing);
    if (Clock::now() >= remark) {
      remark = Clock::now() + kNextRemarks;
      host.tell(str("waiting while ", doing, " by ", holder(), " (it holds ", path, ")"));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  held_ = true;
  sign();
}

void CacheLock::remove_leftovers(const std::filesystem::path& target) const {
  if (!held_) return;
  const std::string start = target.filename().string() + ".tmp.";
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(target.parent_path(), ignored))
    if (entry.path().filename().string().starts_with(start)) std::filesystem::remove(entry.path(), ignored);
}

// Bytes of a file that anybody may have written, for a line of the log.
std::string CacheLock::holder() const {
  std::array<char, 400> text{};
  const ssize_t size = ::pread(fd_, text.data(), text.size(), 0);
  std::string line(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  line = line.substr(0, line.find('\n'));
  for (char& c : line)
    if (c < ' ' || c > '~') c = '?';
  return line.empty() ? "another process" : line;
}

// Only for those who wait, so that a full disk is no failure here.
void CacheLock::sign() const {
  const std::string line = str("process ", ::getpid(), " on ", host_name(), ", since ", time_now(), "\n");
  if (::ftruncate(fd_, 0) != 0) return;
  [[maybe_unused]] const ssize_t written = ::pwrite(fd_, line.data(), line.size(), 0);
}

}  // namespace ithaca
