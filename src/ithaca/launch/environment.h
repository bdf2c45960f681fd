// Who am I: the rank as told by the launcher's environment variables (torchrun, srun, mpirun, or our own
// spawn).
#pragma once
#include <functional>
#include <string>

#include "ithaca/base/rank_environment.h"

namespace ithaca {

using GetVariable = std::function<const char*(const char*)>;

// Reads RANK/WORLD_SIZE/..., then OMPI_COMM_WORLD_*, MV2_* and MVP_*, PMI_*, SLURM_*: the first family whose
// rank variable is set wins (MVAPICH sets PMI_* too, every MPI may run under Slurm), but Slurm's own variables
// go before the PMI_* that `srun --mpi=pmi2` sets beside them. `get` defaults to getenv.
// A Slurm batch script that runs the program without srun is no task of a step: one rank ("single"), with a
// remark if the job has several tasks.
// Local rank and size: MPI launchers say them; where they do not, they follow when all ranks are on this
// machine. MASTER_ADDR is needed as soon as there is more than one machine, except under Slurm, where the
// first host of the node list serves. MASTER_PORT: torchrun must say it; else 29500, and under Slurm a port
// made from the numbers of job and step. UserError names the variable that is missing, not a number, or out of
// range; also when the surroundings tell a rank and not of how many.
RankEnvironment read_rank_environment(const GetVariable& get = {});

// The first host of a Slurm node list: "n[003-005,9],gpu1" gives "n003". UserError if it is malformed.
std::string first_slurm_host(const std::string& node_list);

// Where torchrun (TORCHELASTIC_ERROR_FILE) or our own spawn asked for it, leaves `message` as JSON for the
// launcher's summary. Does nothing otherwise, and never throws: it is called when things have gone wrong
// already.
void write_elastic_error(const std::string& message);

}  // namespace ithaca
