#include "cli/ranks_here.h"

#include <algorithm>
#include <filesystem>

#include "cli/commands.h"
#include "ithaca/base/limits.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

// A recipe may carry nproc for runs without a launcher; only on the command line it contradicts the launcher.
bool nproc_on_command_line(const ResolvedSettings& settings) {
  return settings.is_given("nproc") && settings.origin.at("nproc").find(':') == std::string::npos;
}

// By config.json; where there are weights, no more than their files can hold: whoever reads them tells of what
// does not match. 0 where the folder does not say; that is told where the model is checked.
uint64_t parameters_to_hold(const Settings& settings) {
  std::error_code error;
  const fs::path folder = model_folder(settings);
  if (!fs::exists(folder / "config.json", error)) return 0;
  uint64_t parameters = 0;
  try {
    parameters = static_cast<uint64_t>(count_parameters(read_model_config(folder)));
  } catch (const UserError&) {
    return 0;
  }
  if (settings.train_from_scratch) return parameters;
  uint64_t bytes = 0;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error))
    if (entry->path().extension() == ".safetensors") {
      const uint64_t size = fs::file_size(entry->path(), error);
      bytes += error ? 0 : size;
    }
  return bytes > 0 ? std::min(parameters, bytes) : parameters;  // none: a plan for weights that are elsewhere
}

}  // namespace

RanksHere ranks_here(const ResolvedSettings& settings, const std::string& command, Problems& problems) {
  const Settings& s = settings.values;
  RanksHere ranks;
  ranks.environment = read_rank_environment();
  // One rank of a launcher's is a process like any other: it may start local ranks.
  ranks.launched = ranks.environment.world_size > 1;
  ranks.local_ranks = ranks.launched ? ranks.environment.local_world_size : std::max<int64_t>(1, s.nproc);
  ranks.world_size = ranks.launched ? ranks.environment.world_size : ranks.local_ranks;
  ranks.threads_per_rank = static_cast<int>(
      s.threads_per_rank > 0 ? s.threads_per_rank
                             : std::max<int64_t>(1, cpu_limits().cores() / ranks.local_ranks));
  const std::string& source = ranks.environment.source;
  if (ranks.launched && nproc_on_command_line(settings) && s.nproc > 0 && s.nproc != ranks.local_ranks)
    problems.add(str(settings.as_typed("nproc"), ": this process is one of ", ranks.local_ranks, " that ",
                     source, " started here; leave nproc out under a launcher"));
  if (command == "generate" && ranks.launched) {
    problems.add(str("generate runs on one rank; ", source, " has started ", ranks.world_size,
                     ": start it without the launcher, or with one task"));
    ranks.world_size = ranks.local_ranks = 1;  // said once
  }
  return ranks;
}

std::vector<std::string> exceeded_limits(const ResolvedSettings& settings, const RanksHere& ranks) {
  const Settings& s = settings.values;
  const uint64_t parameters = parameters_to_hold(s);
  const auto world = static_cast<uint64_t>(ranks.world_size), here = static_cast<uint64_t>(ranks.local_ranks);
  const uint64_t weights = (s.bf16 ? 2 : 4) * parameters, gradients = 4 * parameters;
  const uint64_t states = ((s.optim == "sgd" ? 0 : 8) + (s.bf16 ? 2 : 0)) * parameters / world;
  const uint64_t rank = weights + gradients + states;
  const MemoryLimits memory = memory_limits();
  const std::string needs = str("weights, gradients and optimizer states take ", size_text(rank), " a rank");
  std::vector<std::string> exceeded;
  if (here * rank > memory.total())
    exceeded.push_back(str("the model does not fit: ", needs, ", ", ranks.local_ranks, " rank(s) here, but ",
                           memory.words(memory.total()), "; take a smaller model, or more machines"));
  if (memory.process && rank > *memory.process)
    exceeded.push_back(str("the model does not fit: ", needs, ", but ", memory.words(*memory.process)));
  const std::optional<uint64_t> largest = file_size_limit();
  if (largest && weights > *largest)
    exceeded.push_back(str("the result cannot be saved: the weights take ", size_text(weights),
                           ", but files here may not exceed ", size_text(*largest),
                           " (ulimit -f, RLIMIT_FSIZE); raise that limit"));
  return exceeded;
}

}  // namespace ithaca
