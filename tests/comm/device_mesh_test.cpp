#include "ithaca/comm/device_mesh.h"

#include <ATen/ops/full.h>
#include <gmock/gmock.h>

#include "ithaca/base/error.h"
#include "ithaca/comm/thread_world.h"

namespace ithaca {
namespace {

using Ranks = std::vector<int>;

// By rank: the ranks of its tensor, ulysses, ring, data, pipeline, sequence and sequence_data groups.
std::vector<std::vector<Ranks>> groups_of(const MeshDegrees& degrees) {
  std::vector<std::vector<Ranks>> all(static_cast<std::size_t>(degrees.world()));
  run_thread_ranks(degrees.world(), [&](Communicator& world) {
    DeviceMesh mesh(world, degrees);
    std::vector<Ranks>& mine = all[static_cast<std::size_t>(world.rank())];
    for (const Axis axis : {Axis::kTensor, Axis::kUlysses, Axis::kRing, Axis::kData, Axis::kPipeline}) {
      mine.push_back(mesh.group(axis).ranks());
      EXPECT_EQ(mesh.group(axis).rank(), mesh.coordinate(axis));
      EXPECT_EQ(mesh.group(axis).ranks()[static_cast<std::size_t>(mesh.group(axis).rank())], world.rank());
    }
    mine.push_back(mesh.sequence().ranks());
    mine.push_back(mesh.sequence_data().ranks());
    at::Tensor sum = at::full({1}, 1.0);
    mesh.sequence_data().all_reduce(sum);
    EXPECT_EQ(sum.item<float>(), static_cast<float>(degrees.sequence() * degrees.data));
  });
  return all;
}

TEST(DeviceMesh, UlyssesAndData) {
  const auto all = groups_of({.ulysses = 2, .data = 2});
  EXPECT_EQ(all[0], (std::vector<Ranks>{{0}, {0, 1}, {0}, {0, 2}, {0}, {0, 1}, {0, 1, 2, 3}}));
  EXPECT_EQ(all[3], (std::vector<Ranks>{{3}, {2, 3}, {3}, {1, 3}, {3}, {2, 3}, {0, 1, 2, 3}}));
}

TEST(DeviceMesh, TensorIsTheFastestAxisAndPipelineTheSlowest) {
  const auto all = groups_of({.tensor = 2, .ulysses = 3, .pipeline = 2});
  EXPECT_EQ(all[0], (std::vector<Ranks>{{0, 1}, {0, 2, 4}, {0}, {0}, {0, 6}, {0, 2, 4}, {0, 2, 4}}));
  EXPECT_EQ(all[9], (std::vector<Ranks>{{8, 9}, {7, 9, 11}, {9}, {9}, {3, 9}, {7, 9, 11}, {7, 9, 11}}));
}

TEST(DeviceMesh, RingInnerPutsRingsOnAdjacentRanks) {
  const auto all = groups_of({.ulysses = 2, .ring = 3, .data = 2, .ring_inner = true});
  EXPECT_EQ(
      all[4],
      (std::vector<Ranks>{
          {4}, {1, 4}, {3, 4, 5}, {4, 10}, {4}, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}));
}

TEST(DeviceMesh, AllFiveAxes) {
  const auto all = groups_of({.tensor = 2, .ulysses = 2, .ring = 2, .data = 2, .pipeline = 2});
  // rank 21 = 10101b: tensor 1, ulysses 0, ring 1, data 0, pipeline 1
  EXPECT_EQ(all[21], (std::vector<Ranks>{{20, 21},
                                         {21, 23},
                                         {17, 21},
                                         {21, 29},
                                         {5, 21},
                                         {17, 19, 21, 23},
                                         {17, 19, 21, 23, 25, 27, 29, 31}}));
}

TEST(DeviceMesh, EveryGroupIsAPartitionOfTheWorld) {
  for (const MeshDegrees& degrees : {MeshDegrees{.ulysses = 3}, MeshDegrees{.ring = 3, .data = 2},
                                     MeshDegrees{}, MeshDegrees{.ulysses = 2, .ring = 2, .data = 3}}) {
    const auto all = groups_of(degrees);
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      for (std::size_t kind = 0; kind < all[rank].size(); ++kind) {
        for (const int other : all[rank][kind])
          EXPECT_EQ(all[static_cast<std::size_t>(other)][kind], all[rank][kind]);
      }
    }
  }
}

TEST(DeviceMesh, BytesAreCountedOnceOverAllGroups) {
  run_thread_ranks(4, [](Communicator& world) {
    DeviceMesh mesh(world, {.ulysses = 2, .data = 2});
    at::Tensor tensor = at::full({10}, 1.0);
    mesh.group(Axis::kUlysses).all_reduce(tensor);
    mesh.group(Axis::kData).all_reduce(tensor);
    mesh.sequence_data().all_reduce(tensor);
    EXPECT_EQ(mesh.bytes_sent(), 40 + 40 + 120);
    EXPECT_EQ(tensor[0].item<float>(), 16.0f);
  });
}

TEST(DeviceMesh, AWrongProductIsRefusedWithAllValues) {
  const std::unique_ptr<Communicator> world = single_rank_world();
  EXPECT_THAT([&] { DeviceMesh(*world, {.ulysses = 2, .data = 3}); },
              testing::ThrowsMessage<UserError>(testing::HasSubstr(
                  "tensor 1 x ulysses 2 x ring 1 x data 3 x pipeline 1 = 6 ranks, but the world has 1")));
  EXPECT_THAT([&] { DeviceMesh(*world, {.ulysses = 0}); },
              testing::ThrowsMessage<UserError>(testing::HasSubstr("at least 1")));
}

}  // namespace
}  // namespace ithaca
