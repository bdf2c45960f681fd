#include "ithaca/launch/engine_command.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "ithaca/base/error.h"
#include "ithaca/base/signals.h"

namespace ithaca {
namespace {

// How libgomp waits: never spinning, so that ranks which share cores do not take them from each other. And
// c10d's own log is off: it prints stack traces of what our one summary says. The user's own values stay.
void add_library_defaults(Variables& variables) {
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) variables["TORCH_CPP_LOG_LEVEL"] = "FATAL";
  if (!std::getenv("OMP_WAIT_POLICY")) variables["OMP_WAIT_POLICY"] = "passive";
  if (!std::getenv("GOMP_SPINCOUNT")) variables["GOMP_SPINCOUNT"] = "0";
}

// torchrun sets OMP_NUM_THREADS to 1 in each of several ranks where the user has set nothing; a 1 of the
// user's own looks the same there.
bool user_has_set_threads() {
  const char* threads = std::getenv("OMP_NUM_THREADS");
  return threads && *threads && !(std::getenv("TORCHELASTIC_RUN_ID") && std::string(threads) == "1");
}

}  // namespace

EngineCommand::EngineCommand(const SpawnOptions& options, Variables changes) {
  add_library_defaults(changes);
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

void EngineCommand::exec() const {
  execve(argv_[0], argv_.data(), environment_.data());
}

void hold_stop_signals(const SpawnOptions& options) {
  const std::string command = options.arguments.empty() ? "" : options.arguments.front();
  if (command != "train" && command != "eval" && command != "generate") return;
  const sigset_t signals = stop_signals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
}

void check_spawn_options(const SpawnOptions& options) {
  if (options.nproc < 1) throw UserError(str("nproc is ", options.nproc, ", expected at least 1"));
  if (options.threads_per_rank < 1)
    throw UserError(str("threads per rank: ", options.threads_per_rank, ", expected at least 1"));
  if (access(options.program.c_str(), X_OK) != 0) {
    throw UserError(str("cannot run ", options.program.string(), ": ", std::strerror(errno),
                        ". Is the installation whole?"));
  }
}

void exec_engine(const SpawnOptions& options) {
  check_spawn_options(options);
  Variables variables;
  if (!user_has_set_threads()) variables["OMP_NUM_THREADS"] = std::to_string(options.threads_per_rank);
  const EngineCommand command(options, std::move(variables));
  set_signal_dispositions();
  hold_stop_signals(options);
  command.exec();
  throw UserError(str("cannot run ", options.program.string(), ": ", std::strerror(errno)));
}

}  // namespace ithaca
