// `ithaca-engine`: one rank of train, eval or generate. Started by `ithaca` (one process, or several local
// ranks) or by torchrun, srun or mpirun through it.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>

#include "cli/engine_commands.h"
#include "cli/standard_output.h"
#include "ithaca/base/limits.h"
#include "ithaca/base/signals.h"
#include "ithaca/comm/process_world.h"
#include "ithaca/train/model_setup.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

// Mistakes that every rank sees alike are told by rank 0 alone; nothing has been connected yet.
ResolvedSettings checked_settings(const std::string& command, const std::vector<std::string>& words,
                                  const RankEnvironment& environment) {
  const SettingsArguments given = split_arguments(words);
  Problems problems;
  const ResolvedSettings settings = resolve_settings(given.file, given.arguments, problems);
  check_settings(settings, environment.world_size, problems, command);
  problems.throw_if_any("the settings do not fit:");
  check_model_layout(settings, read_model_config(model_folder(settings.values)), environment.world_size,
                     problems);
  problems.throw_if_any("the layout does not fit the model:");
  return settings;
}

std::unique_ptr<ProcessWorld> connect(const Settings& settings, const RankEnvironment& environment) {
  ProcessWorldOptions options;
  options.ranks = environment;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(settings.ddp_timeout * 1000));
  options.say = [rank = environment.rank](const std::string& line) {
    std::fprintf(stderr, "ithaca: rank %d is %s\n", rank, line.c_str());
  };
  return ProcessWorld::connect(options);
}

// Descriptors of this process itself, and for each other rank: one that watches it, or a socket a group.
void check_open_files(const RankEnvironment& environment) {
  constexpr uint64_t kOwn = 24, kPerRank = 8;
  raise_open_files(kOwn + kPerRank * static_cast<uint64_t>(environment.world_size - 1));
}

int run(const std::string& command, const EngineContext& context) {
  if (command == "train") return train_command(context);
  if (command == "eval") return eval_command(context);
  if (command == "generate") return generate_command(context);
  throw UserError(command + ": not a command of the engine; use the program `ithaca`");
}

// Ends this rank without unwinding: the destructor of a live process group would wait for ranks that are gone. The user sees one error: a parent of
// ours shows the first cause itself (it has this rank's error file); else the rank whose failure was announced first speaks.
[[noreturn]] void fail(int code, const std::string& what, const RankEnvironment& environment,
                       ProcessWorld* world, Logger* logger) {
  const std::string summary = str("rank ", environment.rank, ": ", what);
  std::optional<std::string> first;
  if (world) {
    world->announce_failure(what);
    first = world->announced_failure();
  }
  if (logger) logger->note("error: " + summary);
  // Before ranks have met, a mistake in what all of them were given is told once a machine; not meeting is told by whoever noticed.
  const bool mine_is_first =
      world ? !first || *first == summary : code != kUserMistake || environment.local_rank == 0;
  if (mine_is_first && !std::getenv("ITHACA_SPAWNED"))
    std::fprintf(stderr, "ithaca: error: %s\n",
                 environment.world_size > 1 && world ? summary.c_str() : what.c_str());
  write_elastic_error(summary);
  std::fflush(nullptr);
  _exit(code);
}

// The end of a process that was told to stop while there was nothing to save, or told so twice. Also called
// beside the main thread, which may be anywhere: nothing that it may hold is waited for.
[[noreturn]] void stop_now(const std::string& why, const RankEnvironment& environment) {
  if (environment.local_rank == 0 && !std::getenv("ITHACA_SPAWNED")) {
    const std::string line = str("ithaca: ", why, "\n");
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
  }
  write_elastic_error(why);
  _exit(kStoppedAndSaved);
}

// What the system refused, in words that name the limits it works under.
std::string out_of_memory(const std::string& what) {
  const MemoryLimits limits = memory_limits();
  const uint64_t least = std::min(limits.total(), limits.process.value_or(limits.total()));
  return str("out of memory (", what, "); ", limits.words(least),
             ". Use a shorter cutoff_len, a smaller batch, gradient_checkpointing, or more ranks");
}

// output_dir/logs/rank_R.log for the commands that have an output folder.
std::unique_ptr<Logger> make_logger(const Settings& settings, const RankEnvironment& environment) {
  fs::path file;
  if (!settings.output_dir.empty()) {
    const fs::path folder = fs::path(settings.output_dir) / "logs";
    std::error_code error;
    fs::create_directories(folder, error);
    if (error)
      throw UserError(str("output_dir ", settings.output_dir, ": cannot be made: ", error.message()));
    file = folder / str("rank_", environment.rank, ".log");
  }
  return std::make_unique<Logger>(environment.rank, environment.rank == 0, file);
}

int engine(const std::string& command, const std::vector<std::string>& words) {
  RankEnvironment environment;
  std::unique_ptr<ProcessWorld> world;
  std::unique_ptr<Logger> logger;
  std::unique_ptr<StopSignal> stop;
  const auto end = [&](int code, const std::string& what) {
    // Where all ranks were told to stop, those that end first fail the others.
    const bool stopped =
        code == kStoppedAndSaved || (code == kRankFailed && stop && stop->ends_the_process());
    if (stopped && world) world->announce_failure("stopped by a signal");
    if (stopped) stop_now(code == kStoppedAndSaved ? what : "stopped by a signal", environment);
    fail(code, what, environment, world.get(), logger.get());
  };
  try {
    environment = read_rank_environment();
    // before any thread exists
    stop = std::make_unique<StopSignal>([&](const std::string& why) { stop_now(why, environment); });
    check_open_files(environment);
    const ResolvedSettings settings = checked_settings(command, words, environment);
    at::init_num_threads();
    if (settings.values.threads_per_rank > 0)
      at::set_num_threads(static_cast<int>(settings.values.threads_per_rank));
    world = connect(settings.values, environment);
    logger = make_logger(settings.values, environment);
    logger->note("CPU tensors travel by " + world->transport());
    for (const std::string& note : settings.notes) logger->info(note);
    for (const std::string& note : read_run_config(settings.values).notes) logger->info(note);
    const int code = run(command, {settings, environment, world->world(), *logger, *stop});
    finish_standard_output();
    world->finish();
    return code;
  } catch (const Error& error) {
    end(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    end(kUserMistake, out_of_memory("an allocation was refused"));
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    const bool memory = what.find("can't allocate memory") != std::string::npos;
    end(memory ? kUserMistake : kInternal, memory ? out_of_memory(what.substr(0, what.find('\n'))) : what);
  } catch (const std::exception& error) {
    end(kInternal, error.what());
  }
  return kInternal;
}

}  // namespace
}  // namespace ithaca

int main(int argc, char** argv) {
  ithaca::set_signal_dispositions();
  if (argc < 2) {
    std::fprintf(stderr, "ithaca-engine is started by `ithaca train | eval | generate`\n");
    return ithaca::kUserMistake;
  }
  c10::
      initLogging();  // reads TORCH_CPP_LOG_LEVEL, which our launcher sets: c10d's stack traces are not for users
  const int code = ithaca::engine(argv[1], std::vector<std::string>(argv + 2, argv + argc));
  // Static destructors of libtorch and its thread pools have nothing left to do for us and cost a tenth of a
  // second.
  std::fflush(nullptr);
  _exit(code);
}
