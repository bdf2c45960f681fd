#include "ithaca/launch/environment.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"

namespace ithaca {
namespace {

using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

RankEnvironment read(const Variables& variables) {
  return read_rank_environment([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

void expect(const Variables& variables, const std::string& source, int rank, int world, int local_rank,
            int local_world, const std::string& address, int port) {
  const RankEnvironment result = read(variables);
  EXPECT_EQ(result.source, source);
  EXPECT_EQ(result.rank, rank);
  EXPECT_EQ(result.world_size, world);
  EXPECT_EQ(result.local_rank, local_rank);
  EXPECT_EQ(result.local_world_size, local_world);
  EXPECT_EQ(result.master_addr, address);
  EXPECT_EQ(result.master_port, port);
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node0"},
                             {"MASTER_PORT", "29400"}};
const Variables kSlurm = {{"SLURM_PROCID", "3"},
                          {"SLURM_STEP_ID", "0"},
                          {"SLURM_NTASKS", "5"},
                          {"SLURM_LOCALID", "1"},
                          {"SLURM_NODEID", "1"},
                          {"SLURM_STEP_TASKS_PER_NODE", "2(x2),1"},
                          {"SLURM_NODELIST", "gpu[07-09]"},
                          {"SLURM_JOB_ID", "123456"}};

Variables with(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}
Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

TEST(Environment, NothingMeansOneRank) {
  expect({}, "single", 0, 1, 0, 1, "127.0.0.1", 0);
}

TEST(Environment, Torchrun) {
  expect(kTorchrun, "torchrun", 5, 8, 1, 4, "node0", 29400);
  EXPECT_FALSE(read(kTorchrun).agent_store);
  const RankEnvironment elastic =
      read(with(with(kTorchrun, "TORCHELASTIC_USE_AGENT_STORE", "True"), "TORCHELASTIC_RESTART_COUNT", "2"));
  EXPECT_TRUE(elastic.agent_store);
  EXPECT_EQ(elastic.restart_count, 2);
}

TEST(Environment, OwnSpawn) {
  const Variables own = {{"ITHACA_SPAWNED", "1"},      {"ITHACA_LISTEN_FD", "7"}, {"RANK", "0"},
                         {"WORLD_SIZE", "2"},          {"LOCAL_RANK", "0"},       {"LOCAL_WORLD_SIZE", "2"},
                         {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "4000"}};
  expect(own, "ithaca", 0, 2, 0, 2, "127.0.0.1", 4000);
  EXPECT_EQ(read(own).listen_fd, 7);
}

TEST(Environment, RanksByHandOnOneMachine) {
  expect({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "4000"}},
         "torchrun", 1, 2, 1, 2, "localhost", 4000);
}

TEST(Environment, OpenMpi) {
  const Variables one = {{"OMPI_COMM_WORLD_RANK", "1"},
                         {"OMPI_COMM_WORLD_SIZE", "2"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                         {"PMI_RANK", "9"},
                         {"SLURM_PROCID", "7"}};
  expect(one, "openmpi", 1, 2, 1, 2, "127.0.0.1", 29500);
  expect(with(with(with(one, "OMPI_COMM_WORLD_SIZE", "4"), "MASTER_ADDR", "head"), "MASTER_PORT", "77"),
         "openmpi", 1, 4, 1, 2, "head", 77);
}

TEST(Environment, MpichAndMvapich) {
  const Variables mpich = {
      {"PMI_RANK", "2"}, {"PMI_SIZE", "3"}, {"MPI_LOCALRANKID", "2"}, {"MPI_LOCALNRANKS", "3"}};
  expect(mpich, "mpich", 2, 3, 2, 3, "127.0.0.1", 29500);
  Variables mvapich = mpich;
  mvapich.insert({{"MV2_COMM_WORLD_RANK", "0"},
                  {"MV2_COMM_WORLD_SIZE", "3"},
                  {"MV2_COMM_WORLD_LOCAL_RANK", "0"},
                  {"MV2_COMM_WORLD_LOCAL_SIZE", "3"}});
  expect(mvapich, "mvapich", 0, 3, 0, 3, "127.0.0.1", 29500);
}

TEST(Environment, Slurm) {
  expect(kSlurm, "slurm", 3, 5, 1, 2, "gpu07", 20000 + 123456 % 20000);
  expect(with(kSlurm, "MASTER_ADDR", "head"), "slurm", 3, 5, 1, 2, "head", 20000 + 123456 % 20000);
  expect(with(with(kSlurm, "SLURM_STEP_TASKS_PER_NODE", "5"), "SLURM_NODEID", "0"), "slurm", 3, 5, 1, 5,
         "127.0.0.1", 23456);
}

TEST(Environment, TwoStepsOfASlurmJobMeetAtTwoPorts) {
  const Variables step = with(kSlurm, "SLURM_STEP_ID", "3");
  expect(step, "slurm", 3, 5, 1, 2, "gpu07", 20000 + (123456 + 3 * 131) % 20000);
  // The step may be smaller than the job.
  const Variables smaller = with(with(step, "SLURM_STEP_NUM_TASKS", "4"), "SLURM_NTASKS", "9");
  EXPECT_EQ(read(smaller).world_size, 4);
  EXPECT_EQ(read(with(without(step, "SLURM_NTASKS"), "SLURM_NPROCS", "5")).world_size, 5);
}

// What a batch script finds that runs the program without srun.
const Variables kSlurmBatch = {{"SLURM_JOB_ID", "77"},      {"SLURM_PROCID", "0"},
                               {"SLURM_LOCALID", "0"},      {"SLURM_NODEID", "0"},
                               {"SLURM_NTASKS", "2"},       {"SLURM_NPROCS", "2"},
                               {"SLURM_NNODES", "1"},       {"SLURM_TASKS_PER_NODE", "2"},
                               {"SLURM_NODELIST", "node1"}, {"SLURM_JOB_NODELIST", "node1"}};

TEST(Environment, ASlurmBatchScriptIsOneRank) {
  expect(kSlurmBatch, "single", 0, 1, 0, 1, "127.0.0.1", 0);
  EXPECT_THAT(read(kSlurmBatch).remark,
              testing::AllOf(HasSubstr("SLURM_NTASKS is 2"), HasSubstr("srun"), HasSubstr("--nproc")));
  EXPECT_EQ(read(with(kSlurmBatch, "SLURM_NTASKS", "1")).remark, "");
  const Variables untold = without(without(kSlurmBatch, "SLURM_NTASKS"), "SLURM_NPROCS");
  expect(untold, "single", 0, 1, 0, 1, "127.0.0.1", 0);
  EXPECT_EQ(read(untold).remark, "");
  // A site's PMIx plugin may set its rank for a batch script too.
  expect(with(kSlurmBatch, "PMIX_RANK", "0"), "single", 0, 1, 0, 1, "127.0.0.1", 0);
}

TEST(Environment, TheShellOfAnInteractiveSlurmStepIsOneRank) {
  for (const char* step : {"4294967290", "4294967291", "interactive"})
    expect(with(kSlurmBatch, "SLURM_STEP_ID", step), "single", 0, 1, 0, 1, "127.0.0.1", 0);
}

TEST(Environment, ATaskOfAStepIsARank) {
  for (const char* name : {"SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS"})
    expect(with(kSlurmBatch, name, "2"), "slurm", 0, 2, 0, 2, "127.0.0.1",
           20077 + (name == std::string("SLURM_STEP_ID") ? 2 * 131 : 0));
  expect(with(with(kSlurmBatch, "SLURM_PROCID", "1"), "SLURM_LOCALID", "1"), "slurm", 1, 2, 1, 2, "127.0.0.1",
         20077);
}

TEST(Environment, SlurmsOwnVariablesGoBeforeItsPmi2) {
  Variables task = with(kSlurmBatch, "SLURM_STEP_ID", "0");
  task.insert({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"PMI_FD", "9"}, {"PMI_JOBID", "77.0"}});
  expect(task, "slurm", 0, 2, 0, 2, "127.0.0.1", 20077);
  // srun --mpi=pmix
  expect(with(with(kSlurmBatch, "SLURM_STEP_ID", "0"), "PMIX_RANK", "0"), "slurm", 0, 2, 0, 2, "127.0.0.1",
         20077);
  // mpiexec of MPICH or Intel under Slurm: the step is that of its own helpers, one a node.
  Variables hydra = task;
  hydra.insert({{"MPI_LOCALRANKID", "3"}, {"MPI_LOCALNRANKS", "4"}});
  hydra["PMI_RANK"] = "3";
  hydra["PMI_SIZE"] = "4";
  expect(hydra, "mpich", 3, 4, 3, 4, "127.0.0.1", 29500);
}

TEST(Environment, OtherNamesOfTheSame) {
  const Variables mvapich = {{"MVP_COMM_WORLD_RANK", "1"},
                             {"MVP_COMM_WORLD_SIZE", "2"},
                             {"MVP_COMM_WORLD_LOCAL_RANK", "1"},
                             {"MVP_COMM_WORLD_LOCAL_SIZE", "2"},
                             {"PMI_RANK", "1"}};
  expect(mvapich, "mvapich", 1, 2, 1, 2, "127.0.0.1", 29500);
  const Variables pals = {
      {"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"PMI_LOCAL_RANK", "1"}, {"PMI_LOCAL_SIZE", "2"}};
  expect(pals, "mpich", 1, 2, 1, 2, "127.0.0.1", 29500);
  // DeepSpeed's launcher
  expect(with(without(kTorchrun, "LOCAL_WORLD_SIZE"), "LOCAL_SIZE", "4"), "torchrun", 5, 8, 1, 4, "node0",
         29400);
  // Open MPI 5 sets PMIX_RANK beside its own.
  expect({{"OMPI_COMM_WORLD_RANK", "1"},
          {"OMPI_COMM_WORLD_SIZE", "2"},
          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
          {"PMIX_RANK", "1"}},
         "openmpi", 1, 2, 1, 2, "127.0.0.1", 29500);
}

TEST(Environment, FirstSlurmHost) {
  EXPECT_EQ(first_slurm_host("n1"), "n1");
  EXPECT_EQ(first_slurm_host("n1,n2"), "n1");
  EXPECT_EQ(first_slurm_host("n[003-005,9],gpu1"), "n003");
  EXPECT_EQ(first_slurm_host("n[7,9]"), "n7");
  EXPECT_EQ(first_slurm_host("rack[1-2]-n[04-08]-ib"), "rack1-n04-ib");
  for (const char* bad : {"", "n[1", "n[1[2]]", "n]1"}) EXPECT_THROW(first_slurm_host(bad), UserError) << bad;
}

struct Bad {
  Variables variables;
  std::string expected;
};

TEST(Environment, BadValuesAreNamed) {
  const std::vector<Bad> table = {
      {with(kTorchrun, "RANK", "8"), "RANK is '8', expected a whole number from 0 to 7"},
      {with(kTorchrun, "RANK", "-1"), "RANK is '-1'"},
      {with(kTorchrun, "RANK", "five"), "RANK is 'five'"},
      {with(kTorchrun, "RANK", "5x"), "RANK is '5x'"},
      {with(kTorchrun, "RANK", "99999999999999999999"), "RANK is '9999"},
      {with(kTorchrun, "WORLD_SIZE", "0"), "WORLD_SIZE is '0'"},
      {without(kTorchrun, "WORLD_SIZE"), "WORLD_SIZE is not set. RANK is set"},
      {without(kTorchrun, "RANK"), "WORLD_SIZE is '8', but RANK is not set"},
      {without(kTorchrun, "LOCAL_RANK"), "LOCAL_RANK is not set"},
      {without(kTorchrun, "LOCAL_WORLD_SIZE"), "Set LOCAL_WORLD_SIZE"},
      {with(kTorchrun, "LOCAL_RANK", "4"), "local rank 4 of 4 does not fit in a world of 8"},
      {with(kTorchrun, "LOCAL_WORLD_SIZE", "9"),
       "LOCAL_WORLD_SIZE is '9', expected a whole number from 1 to 8"},
      {without(kTorchrun, "MASTER_ADDR"), "MASTER_ADDR is not set"},
      {without(kTorchrun, "MASTER_PORT"), "MASTER_PORT is not set"},
      {with(kTorchrun, "MASTER_PORT", "0"), "MASTER_PORT is '0', expected a whole number from 1 to 65535"},
      {with(kTorchrun, "MASTER_PORT", "65536"), "MASTER_PORT is '65536'"},
      {with(kTorchrun, "ITHACA_LISTEN_FD", "x"), "ITHACA_LISTEN_FD is 'x'"},
      {with(kTorchrun, "TORCHELASTIC_RESTART_COUNT", "-2"), "TORCHELASTIC_RESTART_COUNT is '-2'"},
      {{{"OMPI_COMM_WORLD_RANK", "0"}}, "OMPI_COMM_WORLD_SIZE is not set"},
      {{{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}, "MPI_LOCALRANKID is not set"},
      {{{"PMIX_RANK", "1"}}, "PMIX_RANK is '1', but nothing says how many ranks there are"},
      {without(kSlurm, "SLURM_NTASKS"), "SLURM_NTASKS is not set"},
      {with(kSlurm, "SLURM_STEP_NUM_TASKS", "many"), "SLURM_STEP_NUM_TASKS is 'many'"},
      {without(kSlurm, "SLURM_NODELIST"), "MASTER_ADDR and SLURM_NODELIST are not set"},
      {with(kSlurm, "SLURM_NODELIST", "gpu[1-"), "SLURM_NODELIST is 'gpu[1-'"},
      {with(kSlurm, "SLURM_STEP_TASKS_PER_NODE", "2(y2)"), "SLURM_TASKS_PER_NODE is '2(y2)'"},
      {with(kSlurm, "SLURM_NODEID", "3"), "SLURM_NODEID is 3"},
  };
  for (const Bad& bad : table) {
    try {
      read(bad.variables);
      ADD_FAILURE() << "accepted, though " << bad.expected;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr(bad.expected));
    }
  }
}

TEST(ElasticError, IsWrittenAsTorchrunReadsIt) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("ithaca_error_" + std::to_string(getpid()));
  setenv("TORCHELASTIC_ERROR_FILE", file.c_str(), 1);
  write_elastic_error("rank 1: the loss is NaN \xff");
  unsetenv("TORCHELASTIC_ERROR_FILE");
  const Json error = read_json_file(file);
  EXPECT_THAT(error["message"]["message"].get<std::string>(), HasSubstr("the loss is NaN"));
  EXPECT_GT(std::stoll(error["message"]["extraInfo"]["timestamp"].get<std::string>()), 0);
  std::filesystem::remove(file);
  write_elastic_error("nobody asked");
  EXPECT_FALSE(std::filesystem::exists(file));
}

}  // namespace
}  // namespace ithaca
