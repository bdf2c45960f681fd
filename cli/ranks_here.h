// How many ranks there are and who starts them: a launcher (torchrun, srun, mpirun) or this program.
#pragma once
#include <string>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/config/settings.h"
#include "ithaca/launch/environment.h"

namespace ithaca {

struct RanksHere {
  RankEnvironment environment;
  bool launched = false;  // this process is one of several that a launcher started
  int64_t local_ranks = 1, world_size = 1;
  int threads_per_rank = 1;  // as set, else this process's share of the processors
};

// Adds to `problems` where the settings and the launcher contradict each other.
RanksHere ranks_here(const ResolvedSettings& settings, const std::string& command, Problems& problems);

// A line for each limit of this machine or container under which a training with these settings plainly cannot
// end well: memory for weights, gradients and optimizer states of the ranks here; the size of a file.
std::vector<std::string> exceeded_limits(const ResolvedSettings& settings, const RanksHere& ranks);

}  // namespace ithaca
