// Who am I: the rank as told by the launcher's environment variables (torchrun, srun, mpirun, or our own spawn).
#pragma once
#include <functional>
#include <optional>
#include <string>

namespace ithaca {

struct RankEnvironment {
  int rank = 0, world_size = 1;
  int local_rank = 0, local_world_size = 1;
  std::string master_addr = "127.0.0.1";
  int master_port = 0;
  int listen_fd = -1;             // ITHACA_LISTEN_FD: rank 0 of our own spawn gets the bound socket of its parent
  bool agent_store = false;       // TORCHELASTIC_USE_AGENT_STORE
  std::string source;             // "torchrun", "slurm", "openmpi", "mpich", "mvapich", "ithaca" or "single"
};

// Reads RANK/WORLD_SIZE/..., then OMPI_COMM_WORLD_*, PMI_*, MV2_*, SLURM_* (reference order: accelerate's). `get` defaults to getenv.
// UserError names the variable that is missing, not a number, or out of range.
RankEnvironment read_rank_environment(const std::function<const char*(const char*)>& get = {});

}  // namespace ithaca
