// Parallel equals single: loss, every gradient and one SGD step of a tiny model in float64, for every data x
// ulysses layout of 1 to 4 ranks. Within 1e-10. `make test` runs a covering set; ITHACA_FULL=1 the full
// product (make test-long).
#include <gtest/gtest.h>

#include <cstdlib>
#include <mutex>

#include "ithaca/base/error.h"
#include "ithaca/comm/device_mesh.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/apply.h"
#include "tests/parity/model_case.h"

namespace ithaca::parity {
namespace {

void check(const Case& c) {
  SCOPED_TRACE(c.text());
  const Outcome expected = run_single(c);
  ASSERT_EQ(expected.labels, batch_of(c).num_labels);
  std::mutex mutex;
  run_thread_ranks(c.data * c.ulysses, [&](Communicator& world) {
    const Outcome got = run_rank(c, world);
    const std::lock_guard lock(mutex);
    for (const std::string& line : differences(got, expected))
      ADD_FAILURE() << "rank " << world.rank() << ": " << line;
  });
}

const std::vector<std::pair<int, int>> kLayouts = {{1, 1}, {1, 2}, {2, 1}, {1, 3},
                                                   {3, 1}, {1, 4}, {2, 2}, {4, 1}};
const std::vector<HeadCounts> kHeads = {{8, 8}, {8, 2}, {9, 3}, {7, 1}, {5, 5}};
const std::vector<int64_t> kLengths = {3, 7, 16, 37};
const std::vector<Documents> kDocuments = {Documents::kOne, Documents::kPacked, Documents::kPadded};

TEST(ModelParity, CoveringSet) {
  int cases = 0;
  for (std::size_t l = 0; l < kLayouts.size(); ++l)
    for (std::size_t h = 0; h < kHeads.size(); ++h) {
      const std::size_t k = l + h;  // the other axes turn with both, so that every pair of values occurs
      for (const std::size_t turn : {k, k + 2}) {
        Case c{kLayouts[l].first,
               kLayouts[l].second,
               {kHeads[h], 4, turn % 2 == 0},
               kLengths[turn % kLengths.size()],
               kDocuments[(turn + h) % kDocuments.size()],
               (l + turn) % 3 == 0,
               (l + h) % 4 == 0 ? AttentionBackend::kNaive : AttentionBackend::kAten};
        check(c);
        ++cases;
      }
    }
  EXPECT_EQ(cases, 80);
}

TEST(ModelParity, RowsShorterThanTheRanks) {  // ranks without a row, or without a label, take part
  for (const int64_t length : {1, 2, 3})
    for (const auto& [data, ulysses] : {std::pair(1, 4), std::pair(2, 2), std::pair(1, 3)})
      check({.data = data, .ulysses = ulysses, .shape = {{5, 5}}, .length = length});
}

TEST(ModelParityLong, FullProduct) {
  if (!std::getenv("ITHACA_FULL")) GTEST_SKIP() << "the full product runs in make test-long (ITHACA_FULL=1)";
  int cases = 0;
  for (const auto& [data, ulysses] : kLayouts)
    for (const HeadCounts& heads : kHeads)
      for (const int64_t length : kLengths)
        for (const Documents documents : kDocuments)
          for (const bool checkpoint : {false, true})
            for (const bool tied : {false, true}) {
              check({data, ulysses, {heads, 4, tied}, length, documents, checkpoint});
              ++cases;
            }
  EXPECT_EQ(cases, 8 * 5 * 4 * 3 * 2 * 2);
}

TEST(ModelParity, DegreeAboveTheHeadsIsRefusedByName) {
  run_thread_ranks(4, [&](Communicator& world) {
    DeviceMesh mesh(world, {.ulysses = 4});
    auto decoder = make_model({.heads = {3, 1}});
    try {
      apply_parallelism(*decoder, {mesh.degrees(), false}, mesh, AttentionBackend::kAten);
      ADD_FAILURE() << "4 ranks for 3 heads were accepted";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("ulysses_degree 4"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("at most 3"), std::string::npos) << error.what();
    }
  });
}

}  // namespace
}  // namespace ithaca::parity
