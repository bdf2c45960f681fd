#include "ithaca/launch/spawn.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"
#include "ithaca/base/limits.h"
#include "ithaca/base/signals.h"
#include "ithaca/launch/engine_command.h"

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kSecondSignalSeconds = 3;  // until ranks that a second signal did not end are killed
struct Listener {
  int fd = -1, port = 0;
};

Listener listen_on_loopback() {
  Listener listener;
  listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (listener.fd < 0 || bind(listener.fd, generic, length) != 0 || listen(listener.fd, SOMAXCONN) != 0 ||
      getsockname(listener.fd, generic, &length) != 0) {
    throw CommunicationError(str("cannot listen on the loopback interface: ", std::strerror(errno)));
  }
  listener.port = ntohs(address.sin_port);
  return listener;
}

// Keeps the stop signals and SIGCHLD for sigtimedwait while it lives.
class HeldSignals {
 public:
  HeldSignals() : set_(stop_signals()) {
    sigaddset(&set_, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~HeldSignals() { restore(); }
  void restore() const { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  // A signal that came within `seconds`, or 0.
  int wait(double seconds, siginfo_t& info) const {
    const auto whole = static_cast<time_t>(seconds);
    const timespec time{whole, static_cast<long>((seconds - static_cast<double>(whole)) * 1e9)};
    return std::max(0, sigtimedwait(&set_, &info, &time));
  }

 private:
  sigset_t set_, before_{};
};

struct Child {
  pid_t pid = 0;
  std::optional<int> code;  // 128 + signal if it was killed, kRankFailed if nobody can tell any more
  bool killed_by_us = false;
};

// What the kernel's count of processes that were ended for want of memory says about one that was killed.
std::string memory_remark(const std::optional<uint64_t>& before, const std::optional<uint64_t>& after) {
  if (!before || !after) return "; out of memory?";
  if (*after == *before) return "";
  const MemoryLimits limits = memory_limits();
  return str("; out of memory: the kernel ended it, ", limits.words(limits.total()));
}

std::string describe(int code, const std::string& remark_of_a_kill) {
  switch (code) {
    case kUserMistake:
      return "exit code 2, a mistake in settings or files";
    case kNumericsFailed:
      return "exit code 3, numbers went wrong";
    case kRankFailed:
      return "exit code 4, a rank or the network failed";
    case 127:
      return "exit code 127, the program could not be started";
    default:
      break;
  }
  if (code <= 128) return str("exit code ", code);
  return str("killed by signal ", code - 128, " (", strsignal(code - 128), ")",
             code - 128 == SIGKILL ? remark_of_a_kill : "");
}

class Family {
 public:
  explicit Family(const SpawnOptions& options)
      : options_(options), errors_(make_error_folder()), oom_kills_(ControlGroups().oom_kills()) {}
  ~Family() {
    std::error_code ignored;
    std::filesystem::remove_all(errors_, ignored);
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  void start(const HeldSignals& signals) {
    const Listener listener = listen_on_loopback();
    for (int rank = 0; rank < options_.nproc; ++rank)
      children_.push_back({start_rank(rank, listener, signals), std::nullopt});
    close(listener.fd);
  }

  int see_to_the_end(const HeldSignals& signals) {
    std::optional<Clock::time_point> kill_at;
    const auto kill_within = [&](double seconds) {
      const auto at =
          Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
      if (!kill_at || at < *kill_at) kill_at = at;
    };
    while (alive() > 0) {
      siginfo_t info{};
      if (const int signal = signals.wait(0.1, info); signal != 0 && signal != SIGCHLD) {
        const bool asked = stops_.any(), asked_again = stops_.again();
        stops_.note(info.si_pid == getppid(), Clock::now());
        // A signal from the terminal has gone to the whole foreground group, children included.
        if (info.si_code != SI_KERNEL && (!asked || stops_.again())) forward(signal);
        if (stops_.again() && !asked_again) kill_within(kSecondSignalSeconds);
      }
      const bool had_failed = !failed_.empty();
      reap();
      if (!failed_.empty() && !had_failed) kill_within(options_.grace_seconds);
      if (kill_at && Clock::now() >= *kill_at) kill_rest();
    }
    return outcome();
  }

 private:
  static std::filesystem::path make_error_folder() {
    std::error_code error;
    const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
    const char* variable = std::getenv("TMPDIR");
    if (error)
      throw UserError(str("TMPDIR is ", variable ? variable : "not set, and /tmp is missing", ": ",
                          error.message(), ". Set TMPDIR to a folder for small files."));
    std::string pattern = folder / "ithaca_ranks_XXXXXX";
    if (!mkdtemp(pattern.data()))
      throw UserError(str("cannot make a folder in ", folder.string(), ": ", std::strerror(errno),
                          ". Set TMPDIR to a folder for small files."));
    return pattern;
  }
  std::filesystem::path error_file(std::size_t rank) const { return errors_ / std::to_string(rank); }

  pid_t start_rank(int rank, const Listener& listener, const HeldSignals& signals) {
    Variables variables = {{"ITHACA_SPAWNED", "1"},
                           {"RANK", std::to_string(rank)},
                           {"LOCAL_RANK", std::to_string(rank)},
                           {"WORLD_SIZE", std::to_string(options_.nproc)},
                           {"LOCAL_WORLD_SIZE", std::to_string(options_.nproc)},
                           {"MASTER_ADDR", "127.0.0.1"},
                           {"MASTER_PORT", std::to_string(listener.port)},
                           {"OMP_NUM_THREADS", std::to_string(options_.threads_per_rank)},
                           {"TORCHELASTIC_ERROR_FILE", error_file(static_cast<std::size_t>(rank))}};
    if (rank == 0) variables["ITHACA_LISTEN_FD"] = std::to_string(listener.fd);
    const EngineCommand command(options_, std::move(variables));
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
      const std::string cause = std::strerror(errno);
      kill_rest();
      throw CommunicationError(str("cannot start rank ", rank, ": ", cause,
                                   " (the number of processes may be limited: ulimit -u, pids.max)"));
    }
    if (pid > 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);  // the parent died before prctl
    signals.restore();
    hold_stop_signals(options_);
    if (rank == 0) fcntl(listener.fd, F_SETFD, 0);
    command.exec();
    _exit(127);
  }

  std::size_t alive() const {
    std::size_t count = 0;
    for (const Child& child : children_) count += child.code ? 0 : 1;
    return count;
  }

  std::size_t killed() const {
    std::size_t count = 0;
    for (const Child& child : children_) count += child.killed_by_us ? 1 : 0;
    return count;
  }

  void forward(int signal) const {
    for (const Child& child : children_) {
      if (!child.code) kill(child.pid, signal);
    }
  }

  void reap() {
    for (std::size_t rank = 0; rank < children_.size(); ++rank) {
      Child& child = children_[rank];
      int status = 0;
      if (child.code) continue;
      const pid_t ended = waitpid(child.pid, &status, WNOHANG);
      if (ended == 0 || (ended < 0 && errno != ECHILD)) continue;
      child.code = ended < 0           ? kRankFailed  // somebody else has reaped it
                   : WIFEXITED(status) ? WEXITSTATUS(status)
                                       : 128 + WTERMSIG(status);
      if (*child.code != kDone && *child.code != kStoppedAndSaved && !child.killed_by_us)
        failed_.push_back(rank);
    }
  }

  void kill_rest() {
    for (Child& child : children_) {
      if (child.code || child.killed_by_us) continue;
      child.killed_by_us = true;
      kill(child.pid, SIGKILL);
    }
  }

  // What the rank left for us (write_elastic_error) less its own "rank R: "; empty where it left nothing.
  std::string cause_of(std::size_t rank) const {
    std::error_code ignored;
    if (!std::filesystem::exists(error_file(rank), ignored)) return "";
    try {
      const std::string text =
          read_json_file(error_file(rank), 1 << 20).at("message").at("message").get<std::string>();
      const std::string prefix = str("rank ", rank, ": ");
      return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
    } catch (const std::exception&) {
      return "";  // it died while writing
    }
  }

  // The mistake of the user that every rank found alike: no rank is to blame. Else nothing.
  std::string common_mistake() const {
    const std::string mistake = cause_of(0);
    for (std::size_t rank = 0; rank < children_.size(); ++rank) {
      if (*children_[rank].code != kUserMistake || cause_of(rank) != mistake) return "";
    }
    return mistake;
  }

  // Ranks that were stopped by a signal take the others with them, who then end with 4.
  std::optional<std::size_t> stopped() const {
    for (const std::size_t rank : failed_)
      if (*children_[rank].code != kRankFailed) return std::nullopt;
    for (std::size_t rank = 0; rank < children_.size(); ++rank)
      if (*children_[rank].code == kStoppedAndSaved) return rank;
    return std::nullopt;
  }

  int outcome() const {
    if (const std::optional<std::size_t> rank = stopped()) {
      if (const std::string cause = cause_of(*rank); !cause.empty())
        std::cerr << "ithaca: " << cause << std::endl;
      return kStoppedAndSaved;
    }
    if (failed_.empty()) {
      if (killed() == 0) return kDone;
      std::cerr << "ithaca: stopped by a second signal; " << killed() << " rank(s) did not end within "
                << kSecondSignalSeconds << " s and were killed; the newest checkpoint stands" << std::endl;
      return kStoppedAndSaved;
    }
    // Ranks that fail with 4 mostly follow another's failure, and both may end between two looks: name the
    // other one.
    std::size_t first = failed_.front();
    for (const std::size_t rank : failed_) {
      if (*children_[first].code == kRankFailed && *children_[rank].code != kRankFailed) first = rank;
    }
    const std::string mistake = common_mistake(), cause = cause_of(first);
    if (!mistake.empty()) {
      std::cerr << "ithaca: error: " << mistake << std::endl;
      return kUserMistake;
    }
    std::cerr << "ithaca: rank " << first << " of " << children_.size() << " failed ("
              << describe(*children_[first].code, memory_remark(oom_kills_, ControlGroups().oom_kills()))
              << ")" << (cause.empty() ? "" : ": ") << cause;
    if (killed() > 0)
      std::cerr << "\n  " << killed() << " other rank(s) did not end within " << options_.grace_seconds
                << " s and were killed";
    std::cerr << std::endl;
    return *children_[first].code;
  }

  const SpawnOptions& options_;
  std::filesystem::path errors_;
  std::vector<Child> children_;        // by rank
  std::vector<std::size_t> failed_;    // in order of their ends
  std::optional<uint64_t> oom_kills_;  // before the ranks started
  StopRequests stops_;
};

}  // namespace

int spawn_ranks(const SpawnOptions& options) {
  check_spawn_options(options);
  set_signal_dispositions();
  const HeldSignals signals;
  Family family(options);
  family.start(signals);
  return family.see_to_the_end(signals);
}

}  // namespace ithaca
