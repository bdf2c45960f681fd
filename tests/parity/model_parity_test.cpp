// Parallel equals single: loss, every gradient and one SGD step of a tiny model in float64, for layouts of
// data x ulysses x ring of 1 to 8 ranks. Within 1e-10. `make test` runs a covering set; ITHACA_FULL=1 the full
// product (make test-long).
#include <ATen/TensorOperators.h>
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
  int64_t labels = 0;
  for (const Batch& batch : micro_batches_of(c)) labels += batch.num_labels;
  ASSERT_EQ(expected.labels, labels);
  std::mutex mutex;
  run_thread_ranks(c.ranks(), [&](Communicator& world) {
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
const std::vector<CheckpointMode> kCheckpoints = {CheckpointMode::kNone, CheckpointMode::kFull,
                                                  CheckpointMode::kKeepAttention};
const std::vector<Sight> kSights = {Sight::kCausal, Sight::kAll,    Sight::kWindow,
                                    Sight::kAlibi,  Sight::kSparse, Sight::kMask};

template <class T>
const T& turn(const std::vector<T>& values, std::size_t k) {
  return values[k % values.size()];
}

TEST(ModelParity, DataAndUlysses) {
  int cases = 0;
  for (std::size_t l = 0; l < kLayouts.size(); ++l)
    for (std::size_t h = 0; h < kHeads.size(); ++h) {
      const std::size_t k = l + h;  // the other axes turn with both, so that every pair of values occurs
      for (const std::size_t t : {k, k + 2}) {
        check({.data = kLayouts[l].first,
               .ulysses = kLayouts[l].second,
               .shape = {kHeads[h], 4, t % 2 == 0},
               .length = turn(kLengths, t),
               .documents = turn(kDocuments, t + h),
               .checkpoint = turn(kCheckpoints, l + t),
               .backend = k % 4 == 0   ? AttentionBackend::kNaive
                          : k % 4 == 1 ? AttentionBackend::kAten
                                       : AttentionBackend::kIthaca});
        ++cases;
      }
    }
  EXPECT_EQ(cases, 80);
}

// Every grid of 1, 2, 3, 4, 6 and 8 ranks, and two replicas of those of 4.
struct Grid {
  int data, ulysses, ring;
};
std::vector<Grid> grids() {
  std::vector<Grid> all = {{2, 4, 1}, {2, 1, 4}, {2, 2, 2}};
  for (const int ranks : {1, 2, 3, 4, 6, 8})
    for (int ulysses = 1; ulysses <= ranks; ++ulysses)
      if (ranks % ulysses == 0) all.push_back({1, ulysses, ranks / ulysses});
  return all;
}

TEST(ModelParity, UlyssesAndRing) {
  int cases = 0;
  const std::vector<int64_t> lengths = {1, 37, 16, 64};
  const std::vector<Grid> all = grids();
  for (std::size_t g = 0; g < all.size(); ++g) {
    for (std::size_t s = 0; s < kSights.size(); ++s) {
      const std::size_t k = g + s;
      Case c{.data = all[g].data,
             .ulysses = all[g].ulysses,
             .ring = all[g].ring,
             .shape = {turn(kHeads, g + 2 * s), 4, k % 2 == 0},
             .length = turn(lengths, k + s / 2),
             .documents = turn(kDocuments, k + s / 3),
             .sight = kSights[s],
             .checkpoint = turn(kCheckpoints, g + s / 2),
             .backend = k % 3 == 0 ? AttentionBackend::kNaive : AttentionBackend::kIthaca,
             .ring_method = k % 4 == 1 ? RingMethod::kAllGatherKv : RingMethod::kRing,
             .ring_inner = k % 2 == 1,
             .cp_window_size = all[g].ring % 2 == 0 && all[g].ring > 2 && s % 2 == 0 ? 2 : 1,
             .ulysses_chunks = s % 3 == 2 ? 2 : 1};
      if (c.ulysses > c.shape.heads.q) c.shape.heads = {8, 2};
      if (c.ring_method == RingMethod::kAllGatherKv) c.cp_window_size = 1;
      check(c);
      ++cases;
    }
  }
  EXPECT_EQ(cases, 19 * 6);
}

// Gradient accumulation: the sum is over the labels of all micro-batches and ranks, divided once.
TEST(ModelParity, SeveralMicroBatches) {
  const std::vector<Grid> some = {{2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {1, 2, 2},
                                  {2, 2, 1}, {1, 1, 4}, {1, 3, 1}, {2, 1, 2}};
  int cases = 0;
  for (std::size_t g = 0; g < some.size(); ++g)
    for (const int micro_batches : {2, 3}) {
      const std::size_t k = g + static_cast<std::size_t>(micro_batches);
      check({.data = some[g].data,
             .ulysses = some[g].ulysses,
             .ring = some[g].ring,
             .shape = {turn(kHeads, k), 4, k % 2 == 0},
             .length = 16 + static_cast<int64_t>(g),
             .documents = turn(kDocuments, k),
             .sight = turn(kSights, k),
             .checkpoint = turn(kCheckpoints, g + k),
             .ring_method = k % 3 == 1 ? RingMethod::kAllGatherKv : RingMethod::kRing,
             .ring_inner = k % 2 == 1,
             .cp_window_size = some[g].ring == 4 && k % 3 != 1 ? 2 : 1,
             .ulysses_chunks = k % 4 == 2 ? 2 : 1,
             .micro_batches = micro_batches});
      ++cases;
    }
  EXPECT_EQ(cases, 16);
}

TEST(ModelParity, GradientsOfMicroBatchesAddUp) {
  for (const Documents documents : kDocuments) {
    const Case all{.shape = {{9, 3}}, .length = 16, .documents = documents, .micro_batches = 3};
    const Outcome got = run_single(all);
    std::vector<at::Tensor> sum;
    for (int m = 0; m < all.micro_batches; ++m) {
      Case alone = all;
      alone.only = m;
      const Outcome part = run_single(alone);
      EXPECT_NE(part.labels, got.labels);
      for (std::size_t i = 0; i < part.gradients.size(); ++i)
        if (m == 0)
          sum.push_back(part.gradients[i].clone());
        else
          sum[i].add_(part.gradients[i]);
    }
    ASSERT_EQ(sum.size(), got.gradients.size());
    for (std::size_t i = 0; i < sum.size(); ++i)
      EXPECT_LE((got.gradients[i] - sum[i]).abs().max().item<double>(),
                kTolerance * std::max(1.0, sum[i].abs().max().item<double>()));
  }
}

TEST(ModelParity, RowsShorterThanTheRanks) {  // ranks without a row, or without a label, take part
  for (const int64_t length : {1, 2, 3})
    for (const Grid& grid : {Grid{1, 4, 1}, Grid{2, 2, 1}, Grid{1, 3, 1}, Grid{1, 1, 4}, Grid{1, 2, 2}})
      check({.data = grid.data,
             .ulysses = grid.ulysses,
             .ring = grid.ring,
             .shape = {{5, 5}},
             .length = length});
}

TEST(ModelParityLong, FullProduct) {
  if (!std::getenv("ITHACA_FULL")) GTEST_SKIP() << "the full product runs in make test-long (ITHACA_FULL=1)";
  int cases = 0;
  for (const Grid& grid : grids())
    for (const HeadCounts& heads : kHeads)
      for (const int64_t length : {1, 37, 64, 101})
        for (const Documents documents : kDocuments)
          for (const Sight sight : kSights)
            for (const CheckpointMode checkpoint : kCheckpoints) {
              if (grid.ulysses > heads.q) continue;
              check({.data = grid.data,
                     .ulysses = grid.ulysses,
                     .ring = grid.ring,
                     .shape = {heads, 4, cases % 2 == 0},
                     .length = length,
                     .documents = documents,
                     .sight = sight,
                     .checkpoint = checkpoint,
                     .ring_inner = cases % 3 == 0});
              ++cases;
            }
  EXPECT_EQ(cases, (3 * 19 + 18 + 17) * 4 * 3 * 6 * 3);  // 7 and 5 heads take no Ulysses degree above them
}

TEST(ModelParity, DegreeAboveTheHeadsIsRefusedByName) {
  run_thread_ranks(4, [&](Communicator& world) {
    DeviceMesh mesh(world, {.ulysses = 4});
    auto decoder = make_model({.heads = {3, 1}});
    try {
      apply_parallelism(*decoder, {mesh.degrees(), {}, CheckpointMode::kNone}, mesh);
      ADD_FAILURE() << "4 ranks for 3 heads were accepted";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("ulysses_degree 4"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("at most 3"), std::string::npos) << error.what();
    }
  });
}

}  // namespace
}  // namespace ithaca::parity
