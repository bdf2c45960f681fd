// Starts local ranks as child processes of this one and sees them to their end.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace ithaca {

struct SpawnOptions {
  int nproc = 1;
  int threads_per_rank = 1;
  std::filesystem::path program;       // the engine's binary
  std::vector<std::string> arguments;  // argv[1..]
  double grace_seconds = 5;            // from the first failure until the rest is killed
};

// Binds a loopback socket for the rendezvous (handed to rank 0: no port race), sets RANK, WORLD_SIZE,
// LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, OMP_NUM_THREADS, OMP_WAIT_POLICY, GOMP_SPINCOUNT
// (libgomp reads them when it is loaded) and starts the ranks. SIGTERM and SIGINT are forwarded. When a rank
// fails the others get grace_seconds, then SIGKILL; one summary naming rank and cause goes to stderr.
// Children die with their parent. Returns the exit code of the first rank that failed (128 + signal if it was
// killed; a rank that failed by itself goes before one that ended with 4 because of it), else 75 if a rank
// stopped and saved, else 0. Each rank gets a TORCHELASTIC_ERROR_FILE of its own: what write_elastic_error
// leaves there is the cause in the summary.
int spawn_ranks(const SpawnOptions& options);

// One rank in this very process: sets the same OMP variables where the user has not, then replaces this
// process by the engine.
[[noreturn]] void exec_engine(const SpawnOptions& options);

}  // namespace ithaca
