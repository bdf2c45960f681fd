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
// (libgomp reads them when it is loaded) and starts the ranks. Stop signals (base/signals.h) are forwarded;
// the engine's start with them blocked, so that one that comes while they load waits for StopSignal. When a rank
// fails the others get grace_seconds, then SIGKILL; 3 s after a second signal all do. Children die with their
// parent. Leaves this process with SIGPIPE and SIGXFSZ ignored and SIGCHLD at its default.
//
// One summary naming rank and cause goes to stderr. Each rank gets ITHACA_SPAWNED=1 (it prints no error
// itself) and a TORCHELASTIC_ERROR_FILE of its own: what write_elastic_error leaves there is the cause; a
// rank that left nothing is named with its exit code or signal. A rank that failed by itself goes before one
// that ended with 4 because of it. When all ranks ended with 2 and the same cause, it is told without a rank.
//
// Returns 75 if a rank was stopped by a signal and all that failed did so with 4, after it; else the exit code
// of the rank that is named (128 + signal if it was killed), else 0.
int spawn_ranks(const SpawnOptions& options);

// One rank in this very process: sets the same OMP variables where the user has not, then replaces this
// process by the engine, with the same signals blocked and ignored. Under torchrun (TORCHELASTIC_RUN_ID)
// OMP_NUM_THREADS=1 is torchrun's own default and not the user's: it gives way to threads_per_rank.
[[noreturn]] void exec_engine(const SpawnOptions& options);

}  // namespace ithaca
