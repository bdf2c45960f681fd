// RingAttention and HybridAttention as a user calls them: against one rank, refusals, groups.
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include "ithaca/base/error.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/sequence/groups.h"
#include "ithaca/parallel/sequence/hybrid_attention.h"

namespace ithaca {
namespace {

constexpr int64_t kBatch = 2, kLength = 61, kHeads = 6, kKvHeads = 2, kHeadDim = 8;

struct Whole {
  at::Tensor q, k, v, out, dq, dk, dv;
};

at::Tensor random(int64_t heads) {
  return at::randn({kBatch, kLength, heads, kHeadDim}, at::kDouble);
}

// By the naive kernel, with dout = out.
Whole whole(const AttentionPattern& pattern) {
  Whole w = {random(kHeads), random(kKvHeads), random(kKvHeads), {}, {}, {}, {}};
  const Rows rows = {{0, kLength}};
  const HeadRange heads = HeadRange::all(kHeads, kKvHeads);
  const AttentionOutput o =
      attention_block(w.q, w.k, w.v, rows, rows, heads, pattern, AttentionBackend::kNaive);
  const AttentionGrads d = attention_block_backward(o.out, w.q, w.k, w.v, o.out, o.lse, rows, rows, heads,
                                                    pattern, AttentionBackend::kNaive);
  w.out = o.out;
  w.dq = d.dq;
  w.dk = d.dk;
  w.dv = d.dv;
  return w;
}

// attend(q, k, v) on this rank's rows of `w`; out, dq, dk, dv within 1e-10.
template <class Attend>
void expect_equal(const Whole& w, const SequenceLayout& layout, int rank, const Attend& attend) {
  const auto mine = [&](const at::Tensor& t) { return shard(t, layout, rank); };
  const auto leaf = [&](const at::Tensor& t) { return mine(t).requires_grad_(true); };
  const at::Tensor q = leaf(w.q), k = leaf(w.k), v = leaf(w.v);
  const at::Tensor out = attend(q, k, v);
  torch::autograd::backward({out}, {mine(w.out)});
  for (const auto& [actual, expected] : {std::pair(out, w.out), std::pair(q.grad(), w.dq),
                                         std::pair(k.grad(), w.dk), std::pair(v.grad(), w.dv)}) {
    ASSERT_EQ(actual.sizes(), mine(expected).sizes());
    if (actual.numel() > 0) {
      EXPECT_LE((actual - mine(expected)).abs().max().item().toDouble(), 1e-10);
    }
  }
}

TEST(HybridAttention, EqualsOneRankDenseAndWithDocuments) {
  const std::vector<int64_t> cu_seqlens = {0, 20, 21, 50};
  const std::vector<std::vector<int64_t>> by_row = {cu_seqlens, {0, 61}};
  AttentionPattern windowed;
  windowed.window = 9;
  for (const AttentionPattern& pattern : {AttentionPattern(), windowed}) {
    AttentionPattern same = pattern, differing = pattern;
    same.documents = {cu_seqlens, cu_seqlens};
    differing.documents = by_row;
    const Whole dense = whole(pattern), packed = whole(same), mixed = whole(differing);
    for (const int ulysses : {1, 2, 3, 6})
      for (const bool ring_inner : {false, true})
        run_thread_ranks(6, [&](Communicator& world) {
          SequenceGroups groups(world, 6, ulysses, ring_inner);
          const HybridAttention attention(BlockAttention{}, groups.ulysses_group(), groups.ring_group(),
                                          pattern);
          const int rank = groups.sequence_parallel_rank();
          expect_equal(dense, {groups.grid(), pattern, kBatch, kLength}, rank, attention);
          expect_equal(packed, {groups.grid(), same, kBatch, kLength}, rank,
                       [&](auto& q, auto& k, auto& v) { return attention(q, k, v, cu_seqlens); });
          expect_equal(mixed, {groups.grid(), differing, kBatch, kLength}, rank,
                       [&](auto& q, auto& k, auto& v) { return attention(q, k, v, by_row); });
        });
  }
}

TEST(RingAttention, EqualsOneRankInOneRingAndTwo) {
  const Whole w = whole({});
  run_thread_ranks(4, [&](Communicator& world) {
    const SequenceLayout layout({1, 4, false}, {}, kBatch, kLength);
    expect_equal(w, layout, world.rank(), RingAttention(BlockAttention{}, world));
    expect_equal(w, layout, world.rank(), RingAttention(BlockAttention{}, world, {}, 2));
  });
}

TEST(HybridAttention, TakesTheSequenceFirst) {
  const std::vector<int64_t> cu_seqlens = {0, 20, 61};
  AttentionPattern packed;
  packed.documents = {cu_seqlens, cu_seqlens};
  const Whole w = whole(packed);
  run_thread_ranks(4, [&](Communicator& world) {
    SequenceGroups groups(world, 4, 2);
    const HybridAttention attention(BlockAttention{}, groups.ulysses_group(), groups.ring_group(), {}, {},
                                    DimOrder::kSequenceFirst);
    expect_equal(w, {groups.grid(), packed, kBatch, kLength}, world.rank(), [&](auto& q, auto& k, auto& v) {
      return attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), cu_seqlens).transpose(0, 1);
    });
  });
}

at::Tensor foreign(const at::Tensor& q, const at::Tensor&, const at::Tensor&) {
  return q * 2;
}

TEST(HybridAttention, TakesAForeignLocalAttentionOnlyWithoutARing) {
  run_thread_ranks(4, [](Communicator& world) {
    SequenceGroups hybrid(world, 4, 2), ulysses(world, 4);
    const auto message = [](const auto& make) -> std::string {
      try {
        make();
      } catch (const UserError& error) {
        return error.what();
      }
      return "";
    };
    EXPECT_THAT(message([&] { HybridAttention(foreign, hybrid.ulysses_group(), hybrid.ring_group()); }),
                testing::HasSubstr("HybridAttention"));
    EXPECT_THAT(message([&] { RingAttention(foreign, world); }), testing::HasSubstr("RingAttention"));
    const HybridAttention attention(foreign, ulysses.ulysses_group(), ulysses.ring_group());
    const at::Tensor q = at::randn({1, 3, 4, 2}, at::kDouble);
    EXPECT_TRUE(attention(q, q, q).equal(q * 2));
  });
}

TEST(HybridAttention, RefusesRowsThatWereNotCutForItsGrid) {
  run_thread_ranks(4, [](Communicator& world) {
    const RingAttention attention(BlockAttention{}, world);
    const at::Tensor q = at::randn({1, world.rank() == 0 ? 9 : 3, 4, 2}, at::kDouble);
    try {
      attention(q, q, q);
      if (world.rank() == 0) ADD_FAILURE() << "9 of 18 rows on rank 0 were taken";
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("shard()"));
    }
  });
}

TEST(SequenceGroups, FormAGridInBothOrders) {
  run_thread_ranks(12, [](Communicator& world) {
    const int r = world.rank(), first = r / 6 * 6;
    SequenceGroups groups(world, 6, 2);
    EXPECT_EQ(groups.ulysses_group().ranks(), (std::vector<int>{r / 2 * 2, r / 2 * 2 + 1}));
    EXPECT_EQ(groups.ring_group().ranks(),
              (std::vector<int>{first + r % 2, first + r % 2 + 2, first + r % 2 + 4}));
    EXPECT_EQ(groups.ulysses_rank(), groups.grid().ulysses_index(groups.sequence_parallel_rank()));
    EXPECT_EQ(groups.ring_rank(), groups.grid().ring_index(groups.sequence_parallel_rank()));
    SequenceGroups inner(world, 6, 2, true);
    EXPECT_EQ(inner.ring_group().ranks(), (std::vector<int>{r / 3 * 3, r / 3 * 3 + 1, r / 3 * 3 + 2}));
    EXPECT_EQ(inner.ulysses_group().ranks(), (std::vector<int>{first + r % 3, first + r % 3 + 3}));
    EXPECT_EQ(inner.ulysses_world_size(), 2);
    EXPECT_EQ(inner.ring_world_size(), 3);
    EXPECT_EQ(inner.ring_rank(), inner.grid().ring_index(inner.sequence_parallel_rank()));
    EXPECT_THROW(SequenceGroups(world, 6, 4), UserError);
  });
}

}  // namespace
}  // namespace ithaca
