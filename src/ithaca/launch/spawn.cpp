#include "ithaca/launch/spawn.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;
using Variables = std::map<std::string, std::string>;

// How libgomp waits: never spinning, so that ranks which share cores do not take them from each other. And
// c10d's own log is off: it prints stack traces of what our one summary says. The user's own values stay.
void add_library_defaults(Variables& variables) {
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) variables["TORCH_CPP_LOG_LEVEL"] = "FATAL";
  if (!std::getenv("OMP_WAIT_POLICY")) variables["OMP_WAIT_POLICY"] = "passive";
  if (!std::getenv("GOMP_SPINCOUNT")) variables["GOMP_SPINCOUNT"] = "0";
}

// This process's environment with `changes`, and argv: everything exec needs, made before the fork.
class Command {
 public:
  Command(const SpawnOptions& options, const Variables& changes) {
    words_.push_back(options.program);
    words_.insert(words_.end(), options.arguments.begin(), options.arguments.end());
    for (char** entry = environ; *entry; ++entry) {
      const std::string text = *entry;
      if (!changes.contains(text.substr(0, text.find('=')))) settings_.push_back(text);
    }
    for (const auto& [name, value] : changes) settings_.push_back(name + "=" + value);
    for (std::string& word : words_) argv_.push_back(word.data());
    for (std::string& setting : settings_) environment_.push_back(setting.data());
    argv_.push_back(nullptr);
    environment_.push_back(nullptr);
  }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  void exec() const { execve(argv_[0], argv_.data(), environment_.data()); }

 private:
  std::vector<std::string> words_, settings_;
  std::vector<char*> argv_, environment_;
};

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

// Keeps SIGTERM, SIGINT and SIGCHLD for sigtimedwait while it lives.
class HeldSignals {
 public:
  HeldSignals() {
    sigemptyset(&set_);
    for (const int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&set_, signal);
    sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~HeldSignals() { restore(); }
  void restore() const { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  // A signal that came within `seconds`, or 0; `from_terminal`: the kernel sent it to the whole foreground
  // group, children included.
  int wait(double seconds, bool& from_terminal) const {
    const auto whole = static_cast<time_t>(seconds);
    const timespec time{whole, static_cast<long>((seconds - static_cast<double>(whole)) * 1e9)};
    siginfo_t info{};
    const int signal = sigtimedwait(&set_, &info, &time);
    from_terminal = info.si_code == SI_KERNEL;
    return signal > 0 ? signal : 0;
  }

 private:
  sigset_t set_{}, before_{};
};

// The engine asks for SIGTERM and SIGINT between the steps of a training. One that comes before it does,
// while its libraries load, must wait for it: blocked signals stay pending, across exec too.
void hold_stop_signals(const SpawnOptions& options) {
  if (options.arguments.empty() || options.arguments.front() != "train") return;
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
}

struct Child {
  pid_t pid = 0;
  std::optional<int> code;  // 128 + signal if it was killed
  bool killed_by_us = false;
};

std::string describe(int code) {
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
             code - 128 == SIGKILL ? "; out of memory?" : "");
}

class Family {
 public:
  explicit Family(const SpawnOptions& options) : options_(options), errors_(make_error_folder()) {}
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
    while (alive() > 0) {
      bool from_terminal = false;
      const int signal = signals.wait(0.1, from_terminal);
      if ((signal == SIGTERM || signal == SIGINT) && !from_terminal) forward(signal);
      reap();
      if (!failed_.empty() && !kill_at) {
        kill_at = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                     std::chrono::duration<double>(options_.grace_seconds));
      }
      if (kill_at && Clock::now() >= *kill_at) kill_rest();
    }
    return outcome();
  }

 private:
  static std::filesystem::path make_error_folder() {
    std::string pattern = std::filesystem::temp_directory_path() / "ithaca_ranks_XXXXXX";
    if (!mkdtemp(pattern.data()))
      throw UserError(str("cannot make a folder in ", pattern, ": ", std::strerror(errno), ". Set TMPDIR."));
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
    add_library_defaults(variables);
    const Command command(options_, variables);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
      const std::string cause = std::strerror(errno);
      kill_rest();
      throw CommunicationError(str("cannot start rank ", rank, ": ", cause));
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

  void forward(int signal) const {
    for (const Child& child : children_) {
      if (!child.code) kill(child.pid, signal);
    }
  }

  void reap() {
    for (std::size_t rank = 0; rank < children_.size(); ++rank) {
      Child& child = children_[rank];
      int status = 0;
      if (child.code || waitpid(child.pid, &status, WNOHANG) != child.pid) continue;
      child.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
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

  int outcome() const {
    if (failed_.empty()) {
      for (const Child& child : children_) {
        if (*child.code == kStoppedAndSaved) return kStoppedAndSaved;
      }
      return kDone;
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
    std::size_t killed = 0;
    for (const Child& child : children_) killed += child.killed_by_us ? 1 : 0;
    std::cerr << "ithaca: rank " << first << " of " << children_.size() << " failed ("
              << describe(*children_[first].code) << ")" << (cause.empty() ? "" : ": ") << cause;
    if (killed > 0)
      std::cerr << "\n  " << killed << " other rank(s) did not end within " << options_.grace_seconds
                << " s and were killed";
    std::cerr << std::endl;
    return *children_[first].code;
  }

  const SpawnOptions& options_;
  std::filesystem::path errors_;
  std::vector<Child> children_;      // by rank
  std::vector<std::size_t> failed_;  // in order of their ends
};

// torchrun sets OMP_NUM_THREADS to 1 in each of several ranks where the user has set nothing; a 1 of the
// user's own looks the same there.
bool user_has_set_threads() {
  const char* threads = std::getenv("OMP_NUM_THREADS");
  return threads && *threads && !(std::getenv("TORCHELASTIC_RUN_ID") && std::string(threads) == "1");
}

void check(const SpawnOptions& options) {
  if (options.nproc < 1) throw UserError(str("nproc is ", options.nproc, ", expected at least 1"));
  if (options.threads_per_rank < 1)
    throw UserError(str("threads per rank: ", options.threads_per_rank, ", expected at least 1"));
  if (access(options.program.c_str(), X_OK) != 0) {
    throw UserError(str("cannot run ", options.program.string(), ": ", std::strerror(errno),
                        ". Is the installation whole?"));
  }
}

}  // namespace

int spawn_ranks(const SpawnOptions& options) {
  check(options);
  const HeldSignals signals;
  Family family(options);
  family.start(signals);
  return family.see_to_the_end(signals);
}

void exec_engine(const SpawnOptions& options) {
  check(options);
  Variables variables;
  if (!user_has_set_threads()) variables["OMP_NUM_THREADS"] = std::to_string(options.threads_per_rank);
  add_library_defaults(variables);
  const Command command(options, variables);
  hold_stop_signals(options);
  command.exec();
  throw UserError(str("cannot run ", options.program.string(), ": ", std::strerror(errno)));
}

}  // namespace ithaca
