#include "cli/ranks_here.h"

#include <algorithm>
#include <filesystem>

#include "cli/commands.h"
#include "ithaca/base/limits.h"

namespace ithaca {
namespace {

// A recipe may carry nproc for runs without a launcher; only on the command line it contradicts the launcher.
bool nproc_on_command_line(const ResolvedSettings& settings) {
  return settings.is_given("nproc") && settings.origin.at("nproc").find(':') == std::string::npos;
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

void check_limits(const ResolvedSettings& settings, const RanksHere& ranks, Problems& problems) {
  const Settings& s = settings.values;
  std::error_code error;
  const std::filesystem::path folder = model_folder(s);
  if (!std::filesystem::exists(folder / "config.json", error)) return;
  uint64_t parameters = 0;
  try {
    parameters = static_cast<uint64_t>(count_parameters(read_model_config(folder)));
  } catch (const UserError&) {
    return;  // told where the model is checked
  }
  const auto world = static_cast<uint64_t>(ranks.world_size), here = static_cast<uint64_t>(ranks.local_ranks);
  const uint64_t weights = (s.bf16 ? 2 : 4) * parameters, gradients = 4 * parameters;
  const uint64_t states = ((s.optim == "sgd" ? 0 : 8) + (s.bf16 ? 2 : 0)) * parameters / world;
  const uint64_t rank = weights + gradients + states;
  const MemoryLimits memory = memory_limits();
  const std::string needs = str("weights, gradients and optimizer states take ", gibibytes(rank), " a rank");
  if (here * rank > memory.total())
    problems.add(str("the model does not fit: ", needs, ", ", ranks.local_ranks, " rank(s) here, but ",
                     memory.words(memory.total()), "; take a smaller model, or more machines"));
  if (memory.process && rank > *memory.process)
    problems.add(str("the model does not fit: ", needs, ", but ", memory.words(*memory.process)));
  const std::optional<uint64_t> largest = file_size_limit();
  if (largest && weights > *largest)
    problems.add(str("the result cannot be saved: the weights take ", gibibytes(weights),
                     ", but files here may not exceed ", gibibytes(*largest),
                     " (ulimit -f, RLIMIT_FSIZE); raise that limit"));
}

}  // namespace ithaca
