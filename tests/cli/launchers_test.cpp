// Other people's launchers, the real ones where they are here (scripts/setup.sh test): torchrun, Open MPI's mpirun;
// Slurm's batch scripts and steps by their variables.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/cli/tiny_engine.h"

namespace ithaca::testing_program {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

class Launchers : public testing::Test {
 protected:
  // Two sequence ranks come to what one rank comes to.
  void expect_two_ranks(const std::string& output) {
    if (!folder_.has("alone")) {
      ASSERT_EQ(run_program(train_words(folder_, "alone")).code, 0);
    }
    const std::vector<double> expected = losses(folder_, "alone"), found = losses(folder_, output);
    ASSERT_EQ(found.size(), expected.size()) << output;
    for (std::size_t step = 0; step < found.size(); ++step) EXPECT_NEAR(found[step], expected[step], 1e-4);
    EXPECT_TRUE(folder_.has(output + "/logs/rank_1.log"));
    EXPECT_FALSE(folder_.has(output + "/logs/rank_2.log"));
  }
  TinyFolder folder_;
};

const Words kTwo = {"--sequence_parallel_size", "2"};

std::string torchrun_python() {
  const char *cache = std::getenv("ITHACA_CACHE"), *home = std::getenv("HOME");
  return (cache ? std::string(cache) : std::string(home ? home : "") + "/.cache/ithaca") +
         "/torchrun/bin/python";
}

TEST_F(Launchers, Torchrun) {
  const std::string python = torchrun_python();
  if (access(python.c_str(), X_OK) != 0) GTEST_SKIP() << python << " is not here (scripts/setup.sh test)";
  const Words torchrun = {python,        "-W",           "ignore",           "-m", "torch.distributed.run",
                          "--no-python", "--standalone", "--nproc-per-node", "2"};
  const Result run = run_program(torchrun + train_words(folder_, "out", kTwo), {}, 120);
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(times(run.err, "step 4/4"), 1) << run.err;
  expect_two_ranks("out");

  // A mistake that every rank finds is in torchrun's summary, and told once by us.
  folder_.write("model/config.json", "{");
  const Result bad = run_program(torchrun + train_words(folder_, "bad", kTwo), {}, 120);
  EXPECT_EQ(bad.code, 1) << "torchrun ends with 1 whatever its workers say";
  EXPECT_THAT(bad.err, HasSubstr("config.json"));
}

TEST_F(Launchers, OpenMpi) {
  if (access("/usr/bin/mpirun", X_OK) != 0)
    GTEST_SKIP() << "/usr/bin/mpirun is not here (scripts/setup.sh test)";
  const Variables allowed = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
  const Words mpirun = {"/usr/bin/mpirun", "--oversubscribe", "-np", "2"};
  Variables variables = allowed;
  variables["MASTER_PORT"] = std::to_string(free_port());
  const Result run = run_program(mpirun + train_words(folder_, "out", kTwo), variables, 120);
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(times(run.err + run.out, "step 4/4"), 1) << run.err << run.out;
  expect_two_ranks("out");
  const Result generate = run_program(mpirun + Words{ITHACA_PROGRAM, "generate", "--model_name_or_path",
                                                     folder_.path("out"), "--prompt", "a"},
                                      variables, 60);
  EXPECT_EQ(generate.code, 2) << generate.err;
  EXPECT_THAT(generate.err, AllOf(HasSubstr("openmpi has started 2"), Not(HasSubstr("--nproc"))));
}

// What sbatch leaves to a batch script, with as many tasks as it was told.
Variables batch(const std::string& tasks) {
  Variables variables = {{"SLURM_JOB_ID", "77"},
                         {"SLURM_PROCID", "0"},
                         {"SLURM_LOCALID", "0"},
                         {"SLURM_NODEID", "0"},
                         {"SLURM_TASKS_PER_NODE", tasks.empty() ? "1" : tasks},
                         {"SLURM_JOB_NODELIST", "localhost"},
                         {"SLURM_NODELIST", "localhost"},
                         {"SLURM_NNODES", "1"}};
  if (!tasks.empty()) variables.insert({{"SLURM_NTASKS", tasks}, {"SLURM_NPROCS", tasks}});
  return variables;
}

TEST_F(Launchers, ASlurmBatchScriptWithoutSrunTrainsAsOneProcessAndSaysSo) {
  for (const std::string tasks : {"2", "1", ""}) {
    const Result run = run_program(train_words(folder_, "out" + tasks), batch(tasks));
    EXPECT_EQ(run.code, 0) << tasks << run.err;
    EXPECT_EQ(times(run.err, "start it with srun"), tasks == "2" ? 1 : 0) << tasks << run.err;
    EXPECT_TRUE(folder_.has("out" + tasks + "/model.safetensors"));
    const Result text =
        run_program({ITHACA_PROGRAM, "generate", "--model_name_or_path", folder_.path("out" + tasks),
                     "--prompt", "verse", "--max_new_tokens", "2"},
                    batch(tasks));
    EXPECT_EQ(text.code, 0) << tasks << text.err;
    EXPECT_EQ(text.err, "") << tasks;
  }
}

TEST_F(Launchers, ASlurmBatchScriptMayStartLocalRanks) {
  for (const std::string tasks : {"2", "1"}) {
    const Result run =
        run_program(train_words(folder_, "out" + tasks, kTwo + Words{"--nproc", "2"}), batch(tasks));
    EXPECT_EQ(run.code, 0) << tasks << run.err;
    EXPECT_EQ(times(run.err, "srun"), 0) << run.err;
    expect_two_ranks("out" + tasks);
  }
}

// Stands for srun: starts two tasks with the variables of a step, and ends with the first that failed.
constexpr const char* kSrun = R"(#!/bin/bash
export SLURM_STEP_ID=0 SLURM_STEPID=0 SLURM_NTASKS=2 SLURM_NPROCS=2 SLURM_STEP_NUM_TASKS=2 SLURM_TASKS_PER_NODE=2
export SLURM_STEP_TASKS_PER_NODE=2 SLURM_STEP_NODELIST=localhost
if [ "$1" = --mpi=pmi2 ]; then shift; export PMI_SIZE=2 PMI_FD=9 PMI_JOBID=77.0; pmi=1; fi
for task in 0 1; do
  [ -z "$pmi" ] || export PMI_RANK=$task
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" & tasks+=($!)
done
code=0
for task in "${tasks[@]}"; do wait $task || code=$?; done
exit $code
)";

TEST_F(Launchers, SrunOfABatchScript) {
  const std::string srun = folder_.path("srun");
  folder_.write("srun", kSrun);
  fs::permissions(srun, fs::perms::owner_all);
  for (const Words& pmi : {Words{}, Words{"--mpi=pmi2"}}) {
    const std::string output = pmi.empty() ? "plain" : "pmi2";
    Variables variables = batch("2");
    variables["SLURM_JOB_ID"] = std::to_string(free_port());  // the port follows from it
    const Result run = run_program(Words{srun} + pmi + train_words(folder_, output, kTwo), variables, 60);
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(times(run.err, "step 4/4"), 1) << run.err;
    expect_two_ranks(output);
  }
  const Result generate = run_program(
      {srun, ITHACA_PROGRAM, "generate", "--model_name_or_path", folder_.path("plain"), "--prompt", "a"},
      batch("2"));
  EXPECT_EQ(generate.code, 2) << generate.err;
  EXPECT_THAT(generate.err, AllOf(HasSubstr("slurm has started 2"), Not(HasSubstr("--nproc"))));
}

}  // namespace
}  // namespace ithaca::testing_program
