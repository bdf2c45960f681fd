// Who am I: the rank as told by the launcher's environment variables (torchrun, srun, mpirun, or our own
// spawn).
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
  int listen_fd = -1;        // ITHACA_LISTEN_FD: rank 0 of our own spawn gets the bound socket of its parent
  bool agent_store = false;  // TORCHELASTIC_USE_AGENT_STORE
  int restart_count = 0;     // TORCHELASTIC_RESTART_COUNT
  std::string source;        // "torchrun", "slurm", "openmpi", "mpich", "mvapich", "ithaca" or "single"
};

using GetVariable = std::function<const char*(const char*)>;

// Reads RANK/WORLD_SIZE/..., then OMPI_COMM_WORLD_*, MV2_*, PMI_*, SLURM_*: the first family whose rank
// variable is set wins (MVAPICH sets PMI_* too, every MPI may run under Slurm). `get` defaults to getenv.
// Local rank and size: MPI launchers say them; where they do not, they follow when all ranks are on this
// machine. MASTER_ADDR is needed as soon as there is more than one machine, except under Slurm, where the
// first host of the node list serves. MASTER_PORT: torchrun must say it; else 29500, and under Slurm a port
// made from the job's number. UserError names the variable that is missing, not a number, or out of range.
RankEnvironment read_rank_environment(const GetVariable& get = {});

// The first host of a Slurm node list: "n[003-005,9],gpu1" gives "n003". UserError if it is malformed.
std::string first_slurm_host(const std::string& node_list);

// Where torchrun (TORCHELASTIC_ERROR_FILE) or our own spawn asked for it, leaves `message` as JSON for the
// launcher's summary. Does nothing otherwise, and never throws: it is called when things have gone wrong
// already.
void write_elastic_error(const std::string& message);

}  // namespace ithaca
