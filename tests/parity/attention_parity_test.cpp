// DistributedAttention against the same local attention on one rank: outputs and dq, dk, dv in float64 within
// 1e-10, both layouts, batch 3, extra arguments, merged heads, uneven rows with one rank having none. Bytes
// against the formula.
#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "ithaca/base/error.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/config/layout.h"
#include "ithaca/parallel/sequence/distributed_attention.h"
#include "ithaca/parallel/sequence/groups.h"
#include "ithaca/parallel/sequence/layout.h"

namespace ithaca {
namespace {

// A foreign local attention: plain ATen with its own autograd, a mask [T, T] as extra argument, heads merged
// or not.
struct MaskedAttention {
  bool sequence_first = false, merge = false;

  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& mask) const {
    const auto to_bhsd = [&](const at::Tensor& t) {
      return sequence_first ? t.permute({1, 2, 0, 3}) : t.transpose(1, 2);
    };
    const int64_t repeat = q.size(2) / k.size(2);
    const at::Tensor kr = to_bhsd(k.repeat_interleave(repeat, 2)),
                     vr = to_bhsd(v.repeat_interleave(repeat, 2));
    const at::Tensor scores =
        at::matmul(to_bhsd(q), kr.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
    const at::Tensor out = at::matmul(at::softmax(at::where(mask, scores, -INFINITY), -1), vr);
    const at::Tensor back = sequence_first ? out.permute({2, 0, 1, 3}) : out.transpose(1, 2);
    return merge ? back.flatten(2) : back;
  }
};

struct Leaves {
  at::Tensor q, k, v;
};
Leaves leaves_of(const Leaves& full, int64_t dim, int64_t begin, int64_t rows) {
  const auto cut = [&](const at::Tensor& t) {
    return t.narrow(dim, begin, rows).clone().requires_grad_(true);
  };
  return {cut(full.q), cut(full.k), cut(full.v)};
}

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.numel() == 0 && b.numel() == 0) return 0;
  return (a - b).abs().max().item<double>() / std::max(1.0, b.abs().max().item<double>());
}

void check(int ranks, int64_t heads, int64_t kv_heads, std::vector<int64_t> rows, bool sequence_first,
           bool merge) {
  SCOPED_TRACE(str("ranks=", ranks, " heads=", heads, "/", kv_heads, " sequence_first=", sequence_first,
                   " merge=", merge));
  int64_t length = 0;
  for (const int64_t r : rows) length += r;
  constexpr int64_t kBatch = 3, kHeadDim = 6;
  const auto random = [&](int64_t h) {
    return sequence_first ? at::randn({length, kBatch, h, kHeadDim}, at::kDouble)
                          : at::randn({kBatch, length, h, kHeadDim}, at::kDouble);
  };
  const Leaves full = {random(heads), random(kv_heads), random(kv_heads)};
  const at::Tensor mask = at::ones({length, length}, at::kBool).tril();
  const MaskedAttention local{sequence_first, merge};
  const int64_t dim = sequence_first ? 0 : 1;

  const Leaves whole = leaves_of(full, dim, 0, length);
  const at::Tensor expected = local(whole.q, whole.k, whole.v, mask);
  const at::Tensor dout = at::randn_like(expected);
  torch::autograd::backward({expected}, {dout});

  run_thread_ranks(ranks, [&](Communicator& world) {
    int64_t begin = 0;
    for (int r = 0; r < world.rank(); ++r) begin += rows[r];
    const int64_t mine = rows[world.rank()];
    const auto part = [&](const at::Tensor& t) { return t.narrow(dim, begin, mine); };
    const Leaves leaves = leaves_of(full, dim, begin, mine);
    const DistributedAttention attention(local, world,
                                         sequence_first ? DimOrder::kSequenceFirst : DimOrder::kBatchFirst);
    const at::Tensor out = attention(leaves.q, leaves.k, leaves.v, mask);
    torch::autograd::backward({out}, {part(dout)});
    EXPECT_EQ(out.sizes(), part(expected).sizes());
    EXPECT_LE(max_difference(out, part(expected)), 1e-10);
    EXPECT_LE(max_difference(leaves.q.grad(), part(whole.q.grad())), 1e-10);
    EXPECT_LE(max_difference(leaves.k.grad(), part(whole.k.grad())), 1e-10);
    EXPECT_LE(max_difference(leaves.v.grad(), part(whole.v.grad())), 1e-10);

    if (rows != contiguous_split(length, ranks)) return;  // the formula is that of near-even rows
    ModelConfig model;
    model.num_attention_heads = heads;
    model.num_key_value_heads = kv_heads;
    model.head_dim = kHeadDim;
    const LayerTraffic formula = ulysses_traffic(model, kBatch, length, 8, ranks, world.rank());
    EXPECT_EQ(world.traffic().total_bytes(),
              (ranks - 1) * 8 + formula.forward + formula.backward);  // 8: the gathered row counts
  });
}

TEST(DistributedAttention, EqualsTheLocalAttentionOnOneRank) {
  const std::vector<std::pair<int64_t, int64_t>> heads = {{8, 8}, {8, 2}, {9, 3}, {7, 1}, {5, 5}};
  for (int ranks = 1; ranks <= 4; ++ranks)
    for (const auto& [q, kv] : heads)
      for (const bool sequence_first : {false, true})
        check(ranks, q, kv, contiguous_split(13, ranks), sequence_first, (ranks + q) % 2 == 0);
}

TEST(DistributedAttention, TakesAnyRowsIncludingNone) {
  check(3, 5, 5, {4, 0, 7}, false, false);
  check(3, 9, 3, {0, 9, 1}, true, true);
  check(2, 9, 3, {1, 0}, false, true);
}

TEST(DistributedAttention, RefusesMoreRanksThanHeads) {
  run_thread_ranks(4, [](Communicator& world) {
    const DistributedAttention attention(MaskedAttention{}, world);
    const at::Tensor q = at::randn({1, 2, 3, 4}, at::kDouble), mask = at::ones({8, 8}, at::kBool);
    EXPECT_THROW(attention(q, q, q, mask), UserError);
  });
}

TEST(UlyssesSplit, GivesEachRankOnlyTheKvHeadsItsQueryHeadsUse) {
  const std::vector<HeadRange> parts =
      split_heads(HeadRange::all(9, 3), 2);  // 5 heads over kv 0 0 0 1 1, 4 over 1 2 2 2
  EXPECT_EQ(parts[0], (HeadRange{0, 5, 9, 0, 2, 3}));
  EXPECT_EQ(parts[1], (HeadRange{5, 4, 9, 1, 2, 3}));
  const UlyssesSplit split = {parts, {4, 4}};
  EXPECT_FALSE(split.shared(0, 0));
  EXPECT_TRUE(split.shared(0, 1));
  EXPECT_TRUE(split.shared(1, 0));
  EXPECT_FALSE(split.shared(1, 1));
}

TEST(SequenceGroups, AreConsecutiveRanksWithAccessors) {
  run_thread_ranks(6, [](Communicator& world) {
    SequenceGroups groups(world, 3);
    const int r = world.rank();
    EXPECT_EQ(groups.sequence_parallel_group().ranks(),
              (std::vector<int>{r / 3 * 3, r / 3 * 3 + 1, r / 3 * 3 + 2}));
    EXPECT_EQ(groups.sequence_parallel_rank(), r % 3);
    EXPECT_EQ(groups.sequence_parallel_world_size(), 3);
    EXPECT_EQ(groups.sequence_data_parallel_group().size(), 6);
    EXPECT_EQ(groups.data_parallel_group().ranks(), (std::vector<int>{r % 3, r % 3 + 3}));
    EXPECT_EQ(groups.data_parallel_rank(), r / 3);
    EXPECT_EQ(groups.data_parallel_world_size(), 2);
    EXPECT_THROW(SequenceGroups(world, 4), UserError);
  });
}

}  // namespace
}  // namespace ithaca
