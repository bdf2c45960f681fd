#include <cstdio>
#include <filesystem>

#include "cli/commands.h"
#include "cli/ranks_here.h"
#include "ithaca/base/error.h"
#include "ithaca/base/signals.h"
#include "ithaca/checkpoint/model_weights.h"
#include "ithaca/config/settings.h"
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

// Under a launcher the weights, which may be spoilt on one machine alone, are looked at by the ranks once they have
// met: the others then hear of it. The memory of a training is checked with the other limits.
void check_model(const ResolvedSettings& settings, const std::string& command, const RanksHere& ranks,
                 Problems& problems) {
  std::error_code error;
  const fs::path folder = model_folder(settings.values);
  if (!fs::exists(folder / "config.json", error)) return;
  try {
    const ModelConfig model =
        ranks.launched ? read_model_config(folder) : read_checked_config(settings.values, false);
    check_model_layout(settings, model, ranks.world_size, problems);
    if (command != "train") check_memory(model, settings.values);
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

int run_engine(const std::string& command, const Words& words) {
  set_signal_dispositions();
  end_when_stopped();
  const SettingsArguments given = split_arguments(words);
  explain_missing_recipe(given.file);
  Problems problems;
  const ResolvedSettings settings = resolve_settings(given.file, given.arguments, problems);
  const RanksHere ranks = ranks_here(settings, command, problems);
  const bool leads = ranks.environment.rank == 0;
  check_settings(settings, ranks.world_size, problems, command);
  check_model(settings, command, ranks, problems);
  if (command == "train" && ranks.environment.local_rank == 0)
    for (const std::string& limit : exceeded_limits(settings, ranks)) problems.add(limit);
  if (command == "train" && leads) check_output_dir(settings, problems);
  problems.throw_if_any(str("`ithaca ", command, "` cannot start:"));

  if (command == "train" && leads) say_that_gpus_are_not_used();
  if (command != "generate" && !ranks.environment.remark.empty() && ranks.local_ranks == 1)
    std::fprintf(stderr, "ithaca: note: %s\n", ranks.environment.remark.c_str());
  SpawnOptions options;
  options.nproc = static_cast<int>(ranks.local_ranks);
  options.threads_per_rank = ranks.threads_per_rank;
  options.program = engine_program();
  options.arguments = words;
  options.arguments.insert(options.arguments.begin(), command);
  if (ranks.launched || ranks.local_ranks == 1) exec_engine(options);
  const int code = spawn_ranks(options);
  return code > 128 ? kRankFailed : code;  // a rank was killed by a signal; the summary has named it
}

}  // namespace ithaca
