#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "cli/commands.h"
#include "ithaca/base/error.h"
#include "ithaca/config/settings.h"
#include "ithaca/launch/environment.h"
#include "ithaca/launch/spawn.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

fs::path engine_program() {
  fs::path program = fs::read_symlink("/proc/self/exe").parent_path() / "ithaca-engine";
  if (!fs::exists(program))
    throw Error(kInternal,
                str(program.string(),
                    ": no such file; expected the engine beside the `ithaca` program (build it again)"));
  return program;
}

// `train NAME` where NAME is a recipe that was not copied yet
void explain_missing_recipe(const fs::path& file) {
  std::error_code error;
  if (file.empty() || fs::exists(file, error)) return;
  for (const Recipe& recipe : recipes())
    if (recipe.name == file.string() || recipe.name == file.string() + ".yaml")
      throw UserError(str(file.string(),
                          ": no such file here, but there is a recipe of that name; type: ithaca copy-cfg ",
                          fs::path(recipe.name).stem().string(), " ."));
}

void check_model(const ResolvedSettings& settings, int64_t world_size, Problems& problems) {
  std::error_code error;
  const fs::path folder = model_folder(settings.values);
  if (!fs::exists(folder / "config.json", error)) return;
  try {
    check_model_layout(settings, read_model_config(folder), world_size, problems);
  } catch (const UserError& mistake) {
    problems.add(mistake.what());
  }
}

void say_that_gpus_are_not_used() {
  std::error_code error;
  if (fs::exists("/proc/driver/nvidia/version", error))
    std::fputs("ithaca: note: an NVIDIA GPU is here and is not used: this version trains on the CPU\n",
               stderr);
}

}  // namespace

int available_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
  return std::max(1u, std::thread::hardware_concurrency());
}

int run_engine(const std::string& command, const Words& words) {
  const SettingsArguments given = split_arguments(words);
  explain_missing_recipe(given.file);
  Problems problems;
  const ResolvedSettings settings = resolve_settings(given.file, given.arguments, problems);
  const Settings& s = settings.values;
  const RankEnvironment environment = read_rank_environment();
  const bool launched = environment.source != "single";
  const int64_t local_ranks = launched ? environment.local_world_size : std::max<int64_t>(1, s.nproc);
  const int64_t world_size = launched ? environment.world_size : local_ranks;
  // a recipe may carry nproc for runs without a launcher; only on the command line it contradicts the
  // launcher
  const bool nproc_on_command_line =
      settings.is_given("nproc") && settings.origin.at("nproc").find(':') == std::string::npos;
  if (launched && nproc_on_command_line && s.nproc > 0 && s.nproc != local_ranks)
    problems.add(str(settings.as_typed("nproc"), ": this process is one of ", local_ranks, " that ",
                     environment.source, " started here; leave nproc out under a launcher"));
  check_settings(settings, world_size, problems, command);
  check_model(settings, world_size, problems);
  if (command == "train" && environment.rank == 0) check_output_dir(settings, problems);
  problems.throw_if_any(str("`ithaca ", command, "` cannot start:"));

  if (command == "train" && environment.rank == 0) say_that_gpus_are_not_used();
  SpawnOptions options;
  options.nproc = static_cast<int>(local_ranks);
  options.threads_per_rank = static_cast<int>(
      s.threads_per_rank > 0 ? s.threads_per_rank : std::max<int64_t>(1, available_cores() / local_ranks));
  options.program = engine_program();
  options.arguments = words;
  options.arguments.insert(options.arguments.begin(), command);
  if (launched || local_ranks == 1) exec_engine(options);
  const int code = spawn_ranks(options);
  return code > 128 ? kRankFailed : code;  // a rank was killed by a signal; the summary has named it
}

}  // namespace ithaca
