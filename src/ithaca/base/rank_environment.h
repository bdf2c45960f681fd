// Who a process is among the ranks of a run: as a launcher told it (launch/environment.h), as a rendezvous
// needs it (comm/process_world.h).
#pragma once
#include <string>

namespace ithaca {

struct RankEnvironment {
  int rank = 0, world_size = 1;
  int local_rank = 0;
  int local_world_size = 1;  // equal to world_size: everything stays on the loopback interface
  std::string master_addr = "127.0.0.1";
  int master_port = 0;
  // ITHACA_LISTEN_FD: rank 0 of our own spawn gets a socket that already listens, bound by its parent; or -1.
  int listen_fd = -1;
  bool agent_store = false;  // TORCHELASTIC_USE_AGENT_STORE: torchrun's agent already serves the store
  // TORCHELASTIC_RESTART_COUNT: an agent's store outlives a restart, so keys are kept apart by it.
  int restart_count = 0;
  // "torchrun", "slurm", "openmpi", "mpich", "mvapich", "ithaca" or "single"
  std::string source = "single";
  // A line for the user where the surroundings look like more ranks than there are; else empty.
  std::string remark;
};

}  // namespace ithaca
