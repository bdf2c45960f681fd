// The same parity through real processes: this program starts itself again as the ranks, by the
// launcher that `ithaca --nproc` uses.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "ithaca/base/error.h"
#include "ithaca/comm/process_world.h"
#include "ithaca/launch/environment.h"
#include "ithaca/launch/spawn.h"
#include "tests/parity/model_case.h"

namespace ithaca::parity {
namespace {

const std::vector<Case> kCases = {
    {.data = 1, .ulysses = 2, .shape = {{9, 3}}, .length = 37, .documents = Documents::kPacked},
    {.data = 2, .ulysses = 1, .shape = {{8, 2}}, .length = 16, .documents = Documents::kPadded},
    {.data = 1, .ulysses = 3, .shape = {{7, 1}, 4, true}, .length = 7, .checkpoint = CheckpointMode::kFull},
    {.data = 1, .ring = 3, .shape = {{9, 3}}, .length = 37, .documents = Documents::kPacked},
    {.data = 1, .ulysses = 2, .ring = 2, .shape = {{9, 3}}, .length = 64, .sight = Sight::kWindow},
    {.data = 1, .ring = 3, .shape = {{5, 5}}, .length = 41, .ring_method = RingMethod::kAllGatherKv},
    {.data = 2, .ulysses = 2, .shape = {{5, 5}}, .length = 13},
};

int rank_main(const Case& c) {
  const RankEnvironment environment = read_rank_environment();
  ProcessWorldOptions options;
  options.ranks = environment;
  options.timeout = std::chrono::seconds(60);
  const auto world = ProcessWorld::connect(options);
  const std::vector<std::string> lines = differences(run_rank(c, world->world()), run_single(c));
  for (const std::string& line : lines) std::fprintf(stderr, "rank %d: %s\n", environment.rank, line.c_str());
  world->finish();
  return lines.empty() ? 0 : 3;
}

class ProcessParity : public ::testing::TestWithParam<std::size_t> {};

TEST_P(ProcessParity, EqualsSingle) {
  const Case& c = kCases[GetParam()];
  SpawnOptions options;
  options.nproc = c.ranks();
  options.program = std::filesystem::read_symlink("/proc/self/exe");
  options.arguments = {"--rank-of-case", std::to_string(GetParam())};
  EXPECT_EQ(spawn_ranks(options), 0) << c.text();
}

INSTANTIATE_TEST_SUITE_P(Cases, ProcessParity, ::testing::Range(std::size_t{0}, kCases.size()));

}  // namespace
}  // namespace ithaca::parity

int main(int argc, char** argv) {
  using namespace ithaca;
  if (argc == 3 && std::string(argv[1]) == "--rank-of-case") {
    try {
      return parity::rank_main(parity::kCases.at(std::stoul(argv[2])));
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 4;
    }
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
