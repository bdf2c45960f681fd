// Ranks as real processes, which read each other's memory or talk over Gloo: this program starts itself again as
// the ranks. A child runs one role and leaves its findings in a file.
#include "ithaca/comm/process_world.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "ithaca/base/error.h"
#include "ithaca/comm/device_mesh.h"
#include "ithaca/comm/thread_world.h"
#include "tests/comm/collective_table.h"
#include "tests/comm/message_order.h"
#include "tests/comm/surroundings.h"

namespace ithaca {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

const std::vector<at::ScalarType> kDtypes = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf,
                                             at::kLong,  at::kByte,   at::kBool};

std::string table_bytes(Communicator& world) {
  std::string bytes;
  for (const at::ScalarType dtype : kDtypes) bytes += run_collective_table(world, dtype).bytes;
  return bytes;
}

// ---- what a child does
// -------------------------------------------------------------------------------------------------------------

std::string table_role(ProcessWorld& processes) {
  return table_bytes(processes.world());
}

std::string mesh_role(ProcessWorld& processes) {
  DeviceMesh mesh(processes.world(), {.ulysses = processes.world().size()});
  at::Tensor tensor = at::ones({3});
  mesh.sequence().all_reduce(tensor);
  return std::to_string(tensor[0].item<float>());
}

std::string killed_role(ProcessWorld& processes) {
  processes.world().barrier();
  if (processes.world().rank() == 1) raise(SIGKILL);
  at::Tensor tensor = at::ones({100000});
  processes.world().all_reduce(tensor);
  return "";
}

std::string announcing_role(ProcessWorld& processes) {
  processes.world().barrier();
  if (processes.world().rank() == 1) throw NumericsError("the loss is NaN");
  at::Tensor tensor = at::ones({1});
  processes.world().all_reduce(tensor);
  return "";
}

std::string announcing_server_role(ProcessWorld& processes) {
  processes.world().barrier();
  if (processes.world().rank() == 0) throw NumericsError("the loss is NaN");
  at::Tensor tensor = at::ones({1});
  processes.world().all_reduce(tensor);
  return "";
}

std::string transport_role(ProcessWorld& processes) {
  at::Tensor tensor = at::ones({3});
  processes.world().all_reduce(tensor);
  return ithaca::str(tensor[0].item<float>(), " over ", processes.transport());
}

std::string absent_role(ProcessWorld& processes) {
  if (processes.world().rank() == 1) std::this_thread::sleep_for(3s);
  processes.world().barrier();
  return "";
}

// More and larger messages than a channel has room for, both ways at once, received in another order than sent.
std::string flood_role(ProcessWorld& processes) {
  Communicator& world = processes.world();
  constexpr int kMessages = 300;
  const int other = 1 - world.rank();
  std::vector<at::Tensor> sent, received;
  std::vector<WorkPtr> works;
  for (int i = 0; i < kMessages; ++i) {
    sent.push_back(at::full({1000 + i}, world.rank() * kMessages + i, at::kInt));
    received.push_back(at::zeros({1000 + i}, at::kInt));
  }
  for (int i = 0; i < kMessages; ++i) works.push_back(world.async_send(sent[i], other, i % 7));
  for (int tag = 6; tag >= 0; --tag)
    for (int i = tag; i < kMessages; i += 7) works.push_back(world.async_recv(received[i], other, tag));
  for (const WorkPtr& work : works) work->wait();
  for (int i = 0; i < kMessages; ++i)
    if (!received[i].eq(other * kMessages + i).all().item<bool>())
      return ithaca::str("message ", i, " is wrong");
  return "all came over " + processes.transport();
}

std::string any_order_role(ProcessWorld& processes) {
  exchange_in_any_order(processes.world());
  return "all came over " + processes.transport();
}

const std::map<std::string, std::string (*)(ProcessWorld&)> kRoles = {
    {"table", table_role},
    {"flood", flood_role},
    {"mesh", mesh_role},
    {"any order", any_order_role},
    {"killed", killed_role},
    {"announcing", announcing_role},
    {"absent", absent_role},
    {"transport", transport_role},
    {"announcing server", announcing_server_role}};

// argv: --child ROLE RANK SIZE PORT FD AGENT TIMEOUT_MS FILE RESTART_COUNT SHARE_MEMORY SURROUNDINGS NODES
int child(char** argv) {
  ProcessWorldOptions options;
  options.ranks.rank = options.ranks.local_rank = std::stoi(argv[3]);
  options.ranks.world_size = options.ranks.local_world_size = std::stoi(argv[4]);
  options.ranks.master_port = std::stoi(argv[5]);
  options.ranks.listen_fd = std::stoi(argv[6]);
  options.ranks.agent_store = std::string(argv[7]) == "1";
  options.timeout = std::chrono::milliseconds(std::stoi(argv[8]));
  options.ranks.restart_count = std::stoi(argv[10]);
  options.share_memory = std::string(argv[11]) == "1";
  options.ranks.local_world_size /= std::stoi(argv[13]);
  std::string said;
  options.say = [&](const std::string& line) { said += line + "\n"; };
  const auto leave = [&](const std::string& findings, int code) {
    std::ofstream(argv[9], std::ios::binary) << said << findings;
    _exit(code);
  };
  std::unique_ptr<ProcessWorld> processes;
  try {
    std::ofstream(argv[9]) << "";  // while files may still be made
    change_surroundings(argv[12]);
    processes = ProcessWorld::connect(options);
    const std::string findings = kRoles.at(argv[2])(*processes);
    processes->finish();
    std::ofstream(argv[9], std::ios::binary) << findings;
    return 0;  // an ordinary exit, destructors and all
  } catch (const Error& error) {
    if (processes) processes->announce_failure(error.what());
    leave(error.what(), error.code());
  } catch (const std::exception& error) {
    leave(error.what(), 1);
  }
  return 1;
}

// ---- what the parent does
// ----------------------------------------------------------------------------------------------------------

struct ChildEnd {
  int status = -1;  // of waitpid
  std::string findings;
};

struct Family {
  std::string role;
  int size;
  std::vector<int> started;  // which ranks are started at all
  int timeout_ms = 20000;
  int agent_port = 0;  // of a store that is already served
  int restart_count = 0;
  bool share_memory = true;
  std::map<int, std::string> surroundings = {};  // by rank: change_surroundings
  int nodes = 1;  // more: ranks take each other for processes of other machines
};

std::pair<int, int> loopback_socket() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(fd, 16) != 0) std::abort();
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return {fd, ntohs(address.sin_port)};
}

// All children must end within `limit`.
std::map<int, ChildEnd> run(const Family& family, std::chrono::seconds limit = 30s) {
  const auto [fd, bound_port] = loopback_socket();
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() /
      ("ithaca_comm_" + std::to_string(getpid()) + "_" + std::to_string(bound_port));
  std::filesystem::create_directory(folder);
  const int port = family.agent_port ? family.agent_port : bound_port;
  std::map<pid_t, int> ranks;
  for (const int rank : family.started) {
    const bool serves = rank == 0 && !family.agent_port;
    std::vector<std::string> words = {"/proc/self/exe",
                                      "--child",
                                      family.role,
                                      std::to_string(rank),
                                      std::to_string(family.size),
                                      std::to_string(port),
                                      serves ? std::to_string(fd) : "-1",
                                      family.agent_port ? "1" : "0",
                                      std::to_string(family.timeout_ms),
                                      folder / std::to_string(rank),
                                      std::to_string(family.restart_count),
                                      family.share_memory ? "1" : "0",
                                      family.surroundings.contains(rank) ? family.surroundings.at(rank) : "",
                                      std::to_string(family.nodes)};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    fcntl(fd, F_SETFD, serves ? 0 : FD_CLOEXEC);
    pid_t pid = 0;
    if (posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) std::abort();
    ranks[pid] = rank;
  }
  close(fd);
  std::map<int, ChildEnd> ends;
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (ends.size() < ranks.size() && std::chrono::steady_clock::now() < deadline) {
    for (const auto& [pid, rank] : ranks) {
      ChildEnd end;
      if (ends.contains(rank) || waitpid(pid, &end.status, WNOHANG) != pid) continue;
      std::ifstream file(folder / std::to_string(rank), std::ios::binary);
      std::stringstream text;
      text << file.rdbuf();
      end.findings = text.str();
      ends[rank] = end;
    }
    std::this_thread::sleep_for(5ms);
  }
  for (const auto& [pid, rank] : ranks) {
    if (ends.contains(rank)) continue;
    ADD_FAILURE() << "rank " << rank << " still runs after " << limit.count() << " s";
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  std::filesystem::remove_all(folder);
  return ends;
}

int exit_code(const ChildEnd& end) {
  return WIFEXITED(end.status) ? WEXITSTATUS(end.status) : 128 + WTERMSIG(end.status);
}

// Ranks, and whether they read each other's memory or talk over Gloo.
class ProcessTable : public testing::TestWithParam<std::tuple<int, bool>> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ProcessTable, testing::Combine(testing::Values(2, 3), testing::Bool()));

TEST_P(ProcessTable, EveryVerbIsRightAndBitForBitTheThreadBackends) {
  const auto [size, share_memory] = GetParam();
  std::vector<int> all;
  for (int rank = 0; rank < size; ++rank) all.push_back(rank);
  Family family{"table", size, all};
  family.share_memory = share_memory;
  const std::map<int, ChildEnd> ends = run(family, 60s);
  std::vector<std::string> expected(static_cast<std::size_t>(size));
  run_thread_ranks(size, [&](Communicator& world) {
    expected[static_cast<std::size_t>(world.rank())] = table_bytes(world);
  });
  ASSERT_EQ(ends.size(), all.size());
  for (const auto& [rank, end] : ends) {
    EXPECT_EQ(exit_code(end), 0) << end.findings.substr(0, 500);
    EXPECT_GT(end.findings.size(), 100000u);
    EXPECT_TRUE(end.findings == expected[static_cast<std::size_t>(rank)])
        << "rank " << rank << ": other bits than the thread backend's";
  }
}

TEST_P(ProcessTable, MessagesMayBeWaitedForInAnyOrder) {
  const auto [size, share_memory] = GetParam();
  Family family{"any order", size, {}};
  for (int rank = 0; rank < size; ++rank) family.started.push_back(rank);
  family.share_memory = share_memory;
  const auto ends = run(family);
  ASSERT_EQ(ends.size(), family.started.size());
  for (const auto& [rank, end] : ends)
    EXPECT_THAT(end.findings,
                HasSubstr(share_memory ? "all came over each other's memory" : "all came over Gloo"))
        << "rank " << rank << " ended with " << exit_code(end);
}

TEST(ProcessWorld, MoreMessagesThanAChannelHolds) {
  for (const bool share_memory : {true, false}) {
    Family family{"flood", 2, {0, 1}};
    family.share_memory = share_memory;
    const auto ends = run(family);
    ASSERT_EQ(ends.size(), 2u);
    for (const auto& [rank, end] : ends)
      EXPECT_THAT(end.findings, HasSubstr("all came over")) << exit_code(end) << " " << share_memory;
    const std::string carrier = share_memory ? "each other's memory" : "Gloo on 127.0.0.1";
    EXPECT_THAT(ends.at(0).findings, HasSubstr(carrier));
  }
}

TEST(ProcessWorld, AMeshSharesTheWorldsConnections) {
  const auto ends = run({"mesh", 2, {0, 1}});
  ASSERT_EQ(ends.size(), 2u);
  for (const auto& [rank, end] : ends) EXPECT_EQ(end.findings, std::to_string(2.0f)) << exit_code(end);
}

TEST(ProcessWorld, AKilledRankEndsTheOthersWhoNameIt) {
  const auto ends = run({"killed", 3, {0, 1, 2}}, 10s);
  ASSERT_EQ(ends.size(), 3u);
  EXPECT_EQ(exit_code(ends.at(1)), 128 + SIGKILL);
  std::string all;
  for (const int rank : {0, 2}) {
    EXPECT_EQ(exit_code(ends.at(rank)), kRankFailed);
    EXPECT_THAT(ends.at(rank).findings, HasSubstr("all_reduce in group world: no answer from rank"));
    all += ends.at(rank).findings;
  }
  // Nobody announces a kill -9: the first survivor to notice names rank 1 and leaves, and the other may see that one's
  // connection end first. Which rank was killed is what the parent that reaps it says (launch).
  EXPECT_THAT(all, HasSubstr("no answer from rank 1"));
}

TEST(ProcessWorld, TheOthersLearnWhyARankLeft) {
  const auto ends = run({"announcing", 2, {0, 1}}, 10s);
  ASSERT_EQ(ends.size(), 2u);
  EXPECT_EQ(exit_code(ends.at(1)), kNumericsFailed);
  EXPECT_EQ(exit_code(ends.at(0)), kRankFailed);
  EXPECT_THAT(ends.at(0).findings,
              AllOf(HasSubstr("no answer from rank 1"), HasSubstr("rank 1: the loss is NaN")));
}

// The store goes down with the rank that serves it; what it announced is known all the same, on one machine and
// on several (over loopback).
TEST(ProcessWorld, TheOthersLearnWhyTheServingRankLeft) {
  for (const int nodes : {1, 3}) {
    Family family{"announcing server", 3, {0, 1, 2}};
    family.nodes = nodes;
    const auto ends = run(family, 20s);
    ASSERT_EQ(ends.size(), 3u);
    EXPECT_EQ(exit_code(ends.at(0)), kNumericsFailed);
    for (const int rank : {1, 2}) {
      EXPECT_EQ(exit_code(ends.at(rank)), kRankFailed);
      EXPECT_THAT(ends.at(rank).findings, HasSubstr("rank 0: the loss is NaN"));
    }
  }
}

// A filter for some of the ranks or for all: sockets take over on every rank, and say why.
TEST(ProcessWorld, WhereMemoryCannotBeReadSocketsTakeOver) {
  struct Case {
    std::map<int, std::string> surroundings;
    const char* reason;
  };
  for (const Case& one : {Case{{{1, "kill"}}, "rank 1: a filter (seccomp) ends processes"},
                          Case{{{0, "kill"}, {1, "kill"}}, "rank 0: a filter (seccomp) ends processes"},
                          Case{{{0, "errno 1"}}, "rank 0: process_vm_readv: Operation not permitted"},
                          Case{{{1, "errno 38"}}, "rank 1: process_vm_readv: Function not implemented"},
                          Case{{{1, "errno 77"}}, "rank 1: process_vm_readv: "}}) {
    Family family{"transport", 2, {0, 1}};
    family.surroundings = one.surroundings;
    const auto ends = run(family);
    ASSERT_EQ(ends.size(), 2u);
    for (const auto& [rank, end] : ends) {
      EXPECT_EQ(exit_code(end), 0) << one.reason << end.findings;
      EXPECT_THAT(end.findings, AllOf(HasSubstr("2 over Gloo on 127.0.0.1"), HasSubstr(one.reason)));
    }
  }
}

// The shared segment is memory, not a file of /dev/shm; but a limit of files holds for it too.
TEST(ProcessWorld, WhereNoFileMayGrowSocketsTakeOver) {
  Family family{"transport", 2, {0, 1}};
  family.surroundings = {{0, "no files"}};  // whose own findings cannot be written then
  const auto ends = run(family);
  ASSERT_EQ(ends.size(), 2u);
  EXPECT_EQ(exit_code(ends.at(0)), 0);
  EXPECT_THAT(ends.at(1).findings, HasSubstr("Gloo on 127.0.0.1 (rank 0: shared memory: File too large)"));
}

TEST(ProcessWorld, AWaitSaysForWhomAndWhere) {
  const auto missing = run({"mesh", 4, {0, 1}, 6500}, 20s);
  ASSERT_EQ(missing.size(), 2u);
  for (const auto& [rank, end] : missing)
    EXPECT_THAT(end.findings,
                testing::ContainsRegex("waiting for ranks 2, 3 of 4 at 127.0.0.1:[0-9]+, [56] s so far"));
  const auto nobody = run({"mesh", 2, {1}, 6500}, 20s);
  ASSERT_EQ(nobody.size(), 1u);
  EXPECT_THAT(nobody.at(1).findings,
              testing::ContainsRegex("waiting for rank 0 to listen on 127.0.0.1:[0-9]+ .Connection refused"));
}

TEST(ProcessWorld, ARankThatDoesNotCallTimesOutAndIsNamed) {
  const auto ends = run({"absent", 2, {0, 1}, 2000}, 10s);
  ASSERT_EQ(ends.size(), 2u);
  EXPECT_EQ(exit_code(ends.at(0)), kRankFailed);
  EXPECT_THAT(ends.at(0).findings,
              AllOf(HasSubstr("barrier in group world: no answer from rank 1"), HasSubstr("2000ms")));
}

TEST(ProcessWorld, RanksThatNeverComeAreNamed) {
  const auto ends = run({"mesh", 3, {0, 1}, 2000}, 10s);
  ASSERT_EQ(ends.size(), 2u);
  EXPECT_EQ(exit_code(ends.at(0)), kRankFailed);
  EXPECT_THAT(ends.at(0).findings, AllOf(HasSubstr("of 3 ranks these did not come to 127.0.0.1:"),
                                         HasSubstr("within 2000 ms: 2")));
}

TEST(ProcessWorld, ARendezvousThatNobodyServesIsNamedByAddressAndPort) {
  const auto ends = run({"mesh", 2, {1}, 2000}, 10s);
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(exit_code(ends.at(1)), kRankFailed);
  EXPECT_THAT(ends.at(1).findings, HasSubstr("found no rendezvous at 127.0.0.1:"));
}

c10::intrusive_ptr<c10d::TCPStore> agent_store() {
  c10d::TCPStoreOptions options;
  options.isServer = true;
  options.port = 0;
  options.waitWorkers = false;
  return c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
}

TEST(ProcessWorld, JoinsTheStoreOfAnAgent) {
  const auto agent = agent_store();
  const auto ends = run({"mesh", 2, {0, 1}, 20000, agent->getPort()});
  ASSERT_EQ(ends.size(), 2u);
  for (const auto& [rank, end] : ends) EXPECT_EQ(end.findings, std::to_string(2.0f)) << exit_code(end);
}

TEST(ProcessWorld, ARestartDoesNotSeeTheKeysOfTheRunBefore) {
  const auto agent = agent_store();  // it outlives the ranks, with their abort key and their addresses
  const auto failed = run({"announcing", 2, {0, 1}, 20000, agent->getPort(), 0});
  ASSERT_EQ(failed.size(), 2u);
  EXPECT_EQ(exit_code(failed.at(1)), kNumericsFailed);
  const auto again = run({"mesh", 2, {0, 1}, 20000, agent->getPort(), 1});
  ASSERT_EQ(again.size(), 2u);
  for (const auto& [rank, end] : again) EXPECT_EQ(end.findings, std::to_string(2.0f)) << exit_code(end);
}

TEST(ProcessWorld, OneRankNeedsNoRendezvous) {
  const std::unique_ptr<ProcessWorld> alone = ProcessWorld::connect({});
  EXPECT_EQ(alone->world().size(), 1);
  EXPECT_EQ(alone->announced_failure(), std::nullopt);
  alone->finish();
}

}  // namespace
}  // namespace ithaca

int main(int argc, char** argv) {
  if (argc == 14 && std::string(argv[1]) == "--child") return ithaca::child(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
