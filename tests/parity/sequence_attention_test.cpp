// What parity alone does not show of sequence-parallel attention: documents do not leak, bits that must be equal,
// precision in bf16, bytes in closed form, what is kept for a second run, refusals.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "ithaca/base/error.h"
#include "ithaca/comm/device_mesh.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/sequence/layout.h"
#include "tests/parity/sequence_case.h"

namespace ithaca {
namespace {

constexpr AttentionBackend kIthaca = AttentionBackend::kIthaca;

// One of each method on 4 ranks.
std::vector<SchemeCase> methods_on_four() {
  std::vector<SchemeCase> schemes;
  for (const SchemeCase& scheme : all_schemes({4}))
    if (!scheme.ring_inner) schemes.push_back(scheme);
  return schemes;
}

at::Tensor document(const at::Tensor& t, int64_t begin, int64_t end) {
  return t.narrow(1, begin, end - begin);
}

TEST(SequenceAttention, NothingOfOneDocumentReachesAnother) {
  const ShapeCase shape = {.heads = 9, .kv_heads = 3, .head_dim = 8, .length = 120, .batch = 2};
  for (const SchemeCase& scheme : methods_on_four())
    for (const bool causal : {true, false}) {
      SCOPED_TRACE(scheme.name() + (causal ? " causal" : " full"));
      AttentionPattern pattern = shape.pattern(7);
      pattern.causal = causal;
      pattern.documents = {{0, 50, 51, 110}, {0, 20, 90, 115}};
      const Inputs in = random_inputs(shape, 7);
      const Attended clean = attend_parallel(in, pattern, scheme, kIthaca);
      for (const double poison : {1e3, std::numeric_limits<double>::quiet_NaN()}) {
        Inputs dirty = {in.q.clone(), in.k.clone(), in.v.clone(), in.dout.clone()};
        for (at::Tensor* t : {&dirty.q, &dirty.k, &dirty.v, &dirty.dout}) {
          document(t->select(0, 0).unsqueeze(0), 51, 110).fill_(poison);   // the third of the first batch row
          document(t->select(0, 1).unsqueeze(0), 115, 120).fill_(poison);  // padding of the second
        }
        const Attended probed = attend_parallel(dirty, pattern, scheme, kIthaca);
        for (const auto& [a, b] : {std::pair(clean.out, probed.out), std::pair(clean.dq, probed.dq),
                                   std::pair(clean.dk, probed.dk), std::pair(clean.dv, probed.dv)}) {
          EXPECT_TRUE(at::equal(document(a[0].unsqueeze(0), 0, 51), document(b[0].unsqueeze(0), 0, 51)));
          EXPECT_TRUE(at::equal(document(a[1].unsqueeze(0), 0, 115), document(b[1].unsqueeze(0), 0, 115)));
          EXPECT_FALSE(at::equal(document(a[0].unsqueeze(0), 51, 110), document(b[0].unsqueeze(0), 51, 110)));
        }
      }
    }
}

TEST(SequenceAttention, ChunksCutBetweenKvHeadsGiveTheSameBits) {
  const ShapeCase shape = {.heads = 18, .kv_heads = 6, .head_dim = 8, .length = 53, .batch = 2};
  const Inputs in = random_inputs(shape, 3);
  for (const int ring : {1, 2}) {
    SchemeCase scheme = {.ulysses = 2, .ring = ring};
    const Attended one = attend_parallel(in, shape.pattern(3), scheme, kIthaca);
    scheme.chunks = 3;
    const Attended three = attend_parallel(in, shape.pattern(3), scheme, kIthaca);
    EXPECT_TRUE(at::equal(one.out, three.out));
    EXPECT_TRUE(at::equal(one.dq, three.dq));
    EXPECT_TRUE(at::equal(one.dk, three.dk));
    EXPECT_TRUE(at::equal(one.dv, three.dv));
  }
}

double relative_rms(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = a.to(at::kDouble);
  return std::sqrt((wide - b).square().mean().item().toDouble() / b.square().mean().item().toDouble());
}

// Bounds as in the contract: bf16 against a float64 run on the inputs before they were rounded.
TEST(SequenceAttention, RingOfEightInBf16IsAsPreciseAsOneRank) {
  const ShapeCase shape = {.heads = 4, .kv_heads = 2, .head_dim = 32, .length = 512, .batch = 1};
  const Inputs in = random_inputs(shape, 5);
  const Inputs rounded = {in.q.to(at::kBFloat16), in.k.to(at::kBFloat16), in.v.to(at::kBFloat16),
                          in.dout.to(at::kBFloat16)};
  const Attended exact = attend_whole(in, shape.pattern(5), kIthaca);
  const Attended single = attend_whole(rounded, shape.pattern(5), kIthaca);
  const auto check = [&](const SchemeCase& scheme) {
    SCOPED_TRACE(scheme.name());
    const Attended ring = attend_parallel(rounded, shape.pattern(5), scheme, kIthaca);
    // One rank's gradients are opmath here; autograd hands them on in bf16.
    const auto as_handed = [](const at::Tensor& t) { return t.to(at::kBFloat16); };
    EXPECT_LE(relative_rms(ring.out, exact.out), 1.5 * relative_rms(single.out, exact.out));
    EXPECT_LE(relative_rms(ring.dq, exact.dq), 1.5 * relative_rms(as_handed(single.dq), exact.dq));
    EXPECT_LE(relative_rms(ring.dk, exact.dk), 1.5 * relative_rms(as_handed(single.dk), exact.dk));
    EXPECT_LE(relative_rms(ring.dv, exact.dv), 1.5 * relative_rms(as_handed(single.dv), exact.dv));
  };
  check({.ring = 8});
  check({.ring = 8, .cp_window_size = 4});
  check({.ring = 8, .method = RingMethod::kAllGatherKv});
  check({.ulysses = 2, .ring = 4});
}

// The formulas of ring.h and gather_kv.h written out, for rows that divide: R ranks, S rows each.
TEST(SequenceAttention, BytesInClosedForm) {
  constexpr int64_t kRing = 4, kRows = 16, kElement = 8;
  ShapeCase shape = {.heads = 6, .kv_heads = 2, .head_dim = 4, .length = kRing * kRows, .batch = 3};
  const Inputs in = random_inputs(shape, 1);
  const int64_t row = 2 * shape.batch * shape.kv_heads * shape.head_dim * kElement;  // K and V of one row
  const auto sent = [&](const SchemeCase& scheme) {
    std::vector<Sent> bytes;
    attend_parallel(in, shape.pattern(1), scheme, kIthaca, &bytes);
    return bytes;
  };
  const auto total = [](const std::vector<Sent>& bytes) {
    Sent sum;
    for (const Sent& s : bytes) sum = {sum.forward + s.forward, sum.backward + s.backward};
    return sum;
  };

  shape.causal = false;
  for (const SchemeCase& scheme : {SchemeCase{.ring = 4}, SchemeCase{.ring = 4, .cp_window_size = 2},
                                   SchemeCase{.ring = 4, .method = RingMethod::kAllGatherKv}})
    for (const Sent& s : sent(scheme)) {
      EXPECT_EQ(s.forward, (kRing - 1) * kRows * row) << scheme.name();
      EXPECT_EQ(s.backward, 2 * (kRing - 1) * kRows * row) << scheme.name();
    }

  shape.causal = true;  // zigzag: downwards, 3/4 of the rows for K, V; dK, dV without the last chunk
  const int64_t full = kRing * (kRing - 1) * kRows * row;
  EXPECT_EQ(total(sent({.ring = 4})).forward, full * 3 / 4);
  EXPECT_EQ(total(sent({.ring = 4})).backward, full * 3 / 4 + full - (kRing - 1) * kRows / 2 * row);
  // Each pair of ranks: the lower one gets both halves of the higher one's block, the higher one a half.
  EXPECT_EQ(total(sent({.ring = 4, .method = RingMethod::kAllGatherKv})).forward, full * 3 / 4);
  EXPECT_EQ(total(sent({.ring = 4, .method = RingMethod::kAllGatherKv})).backward, full * 3 / 4 * 2);

  AttentionPattern windowed = shape.pattern(1);
  windowed.window = 6;  // to the next rank 5 rows, and their gradients back
  for (const RingMethod method : {RingMethod::kRing, RingMethod::kAllGatherKv}) {
    std::vector<Sent> bytes;
    attend_parallel(in, windowed, {.ring = 4, .method = method}, kIthaca, &bytes);
    for (int rank = 0; rank < kRing; ++rank) {
      const bool last = rank == kRing - 1, first = rank == 0;
      EXPECT_EQ(bytes[rank].forward, last ? 0 : 5 * row);
      EXPECT_EQ(bytes[rank].backward, (last ? 0 : 5 * row) + (first ? 0 : 5 * row));
    }
  }

  AttentionPattern packed = shape.pattern(1);  // one document a rank: nothing is sent
  packed.documents.assign(shape.batch, {0, 16, 32, 48, 64});
  for (const RingMethod method : {RingMethod::kRing, RingMethod::kAllGatherKv}) {
    std::vector<Sent> bytes;
    attend_parallel(in, packed, {.ring = 4, .method = method}, kIthaca, &bytes);
    EXPECT_EQ(total(bytes).forward + total(bytes).backward, 0);
  }
}

// A layer's two runs under activation checkpointing, as its runner makes them.
TEST(SequenceAttention, AStashSavesTheSecondRun) {
  const ShapeCase shape = {.heads = 9, .kv_heads = 3, .head_dim = 8, .length = 67, .batch = 2};
  const Inputs in = random_inputs(shape, 11);
  const AttentionPattern pattern = shape.pattern(11);
  std::vector<SchemeCase> schemes = methods_on_four();
  schemes.push_back({});  // one rank: local attention
  for (const SchemeCase& scheme : schemes) {
    const Attended expected = attend_parallel(in, pattern, scheme, kIthaca);
    for (const AttentionStash::Keep keep : {AttentionStash::Keep::kOutput, AttentionStash::Keep::kAll}) {
      SCOPED_TRACE(scheme.name() + str(" keep ", static_cast<int>(keep)));
      run_thread_ranks(scheme.ranks(), [&](Communicator& world) {
        DeviceMesh mesh(world, {.ulysses = scheme.ulysses, .ring = scheme.ring});
        const SequenceLayout layout({scheme.ulysses, scheme.ring, false}, pattern, 2, shape.length);
        const auto mine = [&](const at::Tensor& t) { return shard(t, layout, world.rank()); };
        const SequenceAttentionOptions options = {kIthaca, scheme.method, scheme.cp_window_size,
                                                  scheme.chunks};
        const AttentionCore core =
            sequence_attention(mesh.group(Axis::kUlysses), mesh.group(Axis::kRing), options);
        const HeadRange heads = HeadRange::all(9, 3);
        AttentionStash stash{.keep = keep};
        at::Tensor first;
        {
          const c10::NoGradGuard no_grad;
          first = core(mine(in.q), mine(in.k), mine(in.v), heads, pattern, &stash);
        }
        EXPECT_TRUE(stash.filled());
        EXPECT_GT(stash.bytes(), 0);
        EXPECT_TRUE(at::equal(first, mine(expected.out)));

        const at::Tensor q = mine(in.q).requires_grad_(true), k = mine(in.k).requires_grad_(true),
                         v = mine(in.v).requires_grad_(true);
        const int64_t before = mesh.bytes_sent();
        const at::Tensor second = core(q, k, v, heads, pattern, &stash);
        const int64_t again = mesh.bytes_sent() - before;
        ModelConfig model;
        model.num_attention_heads = 9;
        model.num_key_value_heads = 3;
        model.head_dim = 8;
        const int ring_rank = mesh.group(Axis::kRing).rank();
        const LayerTraffic ulysses =
            ulysses_traffic(model, 2, even_split(shape.length, scheme.ring, ring_rank).count, 8,
                            scheme.ulysses, mesh.group(Axis::kUlysses).rank());
        EXPECT_EQ(again, keep == AttentionStash::Keep::kAll ? 0 : ulysses.inbound);
        EXPECT_FALSE(stash.filled());
        EXPECT_TRUE(at::equal(second, first));
        torch::autograd::backward({second}, {mine(in.dout)});
        EXPECT_TRUE(at::equal(q.grad(), mine(expected.dq)));
        EXPECT_TRUE(at::equal(k.grad(), mine(expected.dk)));
        EXPECT_TRUE(at::equal(v.grad(), mine(expected.dv)));
      });
    }
  }
}

// A dense kernel computes one run of rows at a time: zigzag rows and documents must be merged around it.
TEST(SequenceAttention, ADenseKernelServesEveryMethod) {
  unsigned seed = 0;
  for (const SchemeCase& scheme : all_schemes({2, 4, 6}))
    for (const bool causal : {true, false})
      for (const Packing packing : {Packing::kNone, Packing::kRandom}) {
        ShapeCase shape = {.heads = 9, .kv_heads = 3, .head_dim = 8, .length = 83, .batch = 2};
        shape.causal = causal;
        shape.packing = packing;
        expect_parity(scheme, make_problem(shape, ++seed), AttentionBackend::kAten);
        if (HasFailure()) FAIL() << "the first case that fails ends the test";
      }
  EXPECT_GT(seed, 80U);
}

TEST(SequenceAttention, RefusesWindowsAndChunksThatDoNotFit) {
  run_thread_ranks(4, [](Communicator& world) {
    DeviceMesh mesh(world, {.ring = 4});
    const auto make = [&](int window, int chunks) {
      return sequence_attention(mesh.group(Axis::kUlysses), mesh.group(Axis::kRing),
                                {kIthaca, RingMethod::kRing, window, chunks});
    };
    EXPECT_THROW(make(3, 1), UserError);
    EXPECT_THROW(make(4, 1), UserError);
    EXPECT_THROW(make(0, 1), UserError);
    EXPECT_THROW(make(1, 0), UserError);
    EXPECT_NO_THROW(make(2, 2));
  });
}

}  // namespace
}  // namespace ithaca
