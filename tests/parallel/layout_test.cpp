// Rows of a sequence on a grid: every row once, balanced, as the pattern asks; tensors and batches cut and put
// together again.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <ctime>
#include <numeric>
#include <random>

#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/sequence/batch_plan.h"
#include "ithaca/parallel/sequence/layout.h"

namespace ithaca {
namespace {

AttentionPattern causal(std::vector<std::vector<int64_t>> documents = {}) {
  AttentionPattern pattern;
  pattern.documents = std::move(documents);
  return pattern;
}

std::vector<int64_t> positions(const RowSet& rows) {
  std::vector<int64_t> list;
  for (const Share run : rows)
    for (int64_t i = 0; i < run.count; ++i) list.push_back(run.begin + i);
  return list;
}

TEST(SequenceLayout, HoldsEveryRowOnce) {
  const std::vector<std::vector<int64_t>> documents = {
      {0, 0, 1, 30, 30, 55}, {0, 60}, {0}, {0, 7, 14, 21, 28, 59}};
  int cases = 0;
  for (const int ulysses : {1, 2, 3})
    for (const int ring : {1, 2, 3, 8})
      for (const bool packed : {false, true})
        for (const int64_t window : {0, 9})
          for (const int64_t length : {int64_t{1}, int64_t{61}}) {
            if (packed && length == 1) continue;
            AttentionPattern pattern = causal(packed ? documents : std::vector<std::vector<int64_t>>());
            pattern.window = window;
            const SequenceGrid grid = {ulysses, ring, false};
            const SequenceLayout layout(grid, pattern, 4, length);
            for (int64_t b = 0; b < 4; ++b) {
              std::vector<int64_t> all;
              for (int rank = 0; rank < grid.size(); ++rank) {
                const std::vector<int64_t> mine = positions(layout.rows(b, rank));
                EXPECT_EQ(static_cast<int64_t>(mine.size()), layout.count(rank));
                EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
                all.insert(all.end(), mine.begin(), mine.end());
              }
              std::sort(all.begin(), all.end());
              EXPECT_EQ(all, positions({{0, length}}));
            }
            ++cases;
          }
  EXPECT_EQ(cases, 72);
}

TEST(SequenceLayout, UlyssesAloneIsContiguous) {
  const SequenceLayout layout({4, 1, false}, causal(), 1, 10);
  EXPECT_EQ(layout.rows(0, 0), (RowSet{{0, 3}}));
  EXPECT_EQ(layout.rows(0, 1), (RowSet{{3, 3}}));
  EXPECT_EQ(layout.rows(0, 3), (RowSet{{8, 2}}));
}

TEST(SequenceLayout, CausalIsZigzagAndFullOrWindowedContiguous) {
  AttentionPattern pattern = causal();
  const SequenceGrid grid = {2, 4, false};
  const SequenceLayout zigzag(grid, pattern, 1, 64);
  EXPECT_EQ(zigzag.ring_rows()[0][1], (RowSet{{8, 8}, {48, 8}}));
  EXPECT_EQ(zigzag.rows(0, 2), (RowSet{{8, 8}}));  // ring rank 1: its Ulysses ranks are 2 and 3
  EXPECT_EQ(zigzag.rows(0, 3), (RowSet{{48, 8}}));
  EXPECT_EQ(SequenceLayout({2, 4, true}, pattern, 1, 64).rows(0, 5), (RowSet{{48, 8}}));  // ring 1, Ulysses 1
  pattern.window = 5;
  EXPECT_EQ(SequenceLayout(grid, pattern, 1, 64).ring_rows()[0][1], (RowSet{{16, 16}}));
  pattern = causal();
  pattern.causal = false;
  EXPECT_EQ(SequenceLayout(grid, pattern, 1, 64).ring_rows()[0][1], (RowSet{{16, 16}}));
}

TEST(SequenceLayout, CausalWorkIsEqual) {
  for (const int ring : {2, 3, 4, 8}) {
    for (const int64_t length : {int64_t{2} * ring * 16, int64_t{1000}}) {
      const AttentionPattern pattern = causal();
      const std::vector<int64_t> areas = SequenceLayout({1, ring, false}, pattern, 1, length).areas(pattern);
      EXPECT_EQ(std::accumulate(areas.begin(), areas.end(), int64_t{0}), length * (length + 1) / 2);
      const auto [least, most] = std::minmax_element(areas.begin(), areas.end());
      // Within one block of a chunk by a chunk; exactly where the chunks are of one size.
      const int64_t chunk = (length + 2 * ring - 1) / (2 * ring);
      EXPECT_LE(*most - *least, length % (2 * ring) == 0 ? 0 : chunk * chunk);
    }
  }
}

TEST(SequenceLayout, PackedDocumentsAreBalancedByArea) {
  const SequenceGrid grid = {1, 4, false};
  // 16 equal documents: whole, four a rank.
  std::vector<int64_t> equal;
  for (int64_t i = 0; i <= 16; ++i) equal.push_back(i * 64);
  AttentionPattern pattern = causal({equal});
  const SequenceLayout whole(grid, pattern, 1, 1024);
  EXPECT_DOUBLE_EQ(imbalance(whole, pattern), 1.0);
  for (const RowSet& rows : whole.ring_rows()[0])
    for (const Share run : rows) EXPECT_EQ(run.begin % 64 + run.count % 64, 0);
  // One long document and many short ones; documents of very different lengths.
  std::vector<int64_t> mixed = {0, 700};
  while (mixed.back() < 1024) mixed.push_back(std::min<int64_t>(1024, mixed.back() + 9));
  for (const std::vector<int64_t>& bounds : {mixed, std::vector<int64_t>{0, 3, 40, 41, 41, 500, 620, 1000}}) {
    pattern = causal({bounds});
    EXPECT_LE(imbalance(SequenceLayout(grid, pattern, 1, 1024), pattern), 1.05);
    // Contiguous parts of these would be far from balanced.
    std::vector<int64_t> areas;
    for (int64_t r = 0; r < 4; ++r)
      areas.push_back(attention_pairs({{r * 256, 256}}, 1024, bounds, pair_rules(pattern)));
    EXPECT_GT(4.0 * static_cast<double>(*std::max_element(areas.begin(), areas.end())),
              1.3 * static_cast<double>(std::accumulate(areas.begin(), areas.end(), int64_t{0})));
  }
}

TEST(PairRules, DenseRulesCountAsThePatternDoes) {
  int cases = 0;
  for (const bool is_causal : {true, false})
    for (const int64_t window : {0, 1, 4, 30})
      for (int64_t q = 0; q < 12; q += 3)
        for (int64_t k = 0; k < 12; k += 2)
          for (const int64_t n : {1, 5, 9}) {
            AttentionPattern pattern = causal();
            pattern.causal = is_causal;
            pattern.window = window;
            EXPECT_EQ(dense_rules(is_causal, window).pairs({q, n}, {k, 7}),
                      pair_rules(pattern).pairs({q, n}, {k, 7}));
            EXPECT_EQ(dense_rules(is_causal, window).seen({q, n}, {k, 7}),
                      pair_rules(pattern).seen({q, n}, {k, 7}));
            ++cases;
          }
  EXPECT_EQ(cases, 576);
}

TEST(PairRules, NeededKeysAreExactRuns) {
  AttentionPattern pattern = causal();
  const PairRules dense = pair_rules(pattern);
  EXPECT_EQ(needed_keys({{10, 5}}, {{0, 8}, {12, 10}}, 64, {}, dense), (RowSet{{0, 8}, {12, 3}}));
  EXPECT_EQ(needed_keys({{10, 5}}, {{0, 8}, {12, 10}}, 64, {0, 6, 13, 64}, dense), (RowSet{{6, 2}, {12, 3}}));
  AttentionPattern window = causal();
  window.window = 4;
  EXPECT_EQ(needed_keys({{10, 5}}, {{0, 10}}, 64, {}, pair_rules(window)), (RowSet{{7, 3}}));
  AttentionPattern sparse = causal();
  sparse.sparse.block = 4;
  sparse.sparse.num_local_blocks = 2;
  sparse.sparse.num_global_blocks = 1;
  // Queries of block 4 see its window (blocks 4, 5) and the last block of each window: 1, 3.
  EXPECT_EQ(needed_keys({{16, 4}}, {{0, 24}}, 64, {}, pair_rules(sparse)), (RowSet{{4, 4}, {12, 8}}));
}

// 64K tokens in blocks of 16 on a ring of 4: layout, the way of every block, and how even the work is. Before, 4,096 x 4,096
// pairs of blocks were looked at one by one, many times over.
TEST(BatchPlan, LongBlockSparseRowsTakeNoTime) {
  constexpr int64_t kTokens = 65536, kBlock = 16, kBlocks = kTokens / kBlock;
  const auto cpu_seconds = [] {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  std::mt19937_64 random(1);
  for (const bool is_causal : {true, false})
    for (const bool mask : {false, true}) {
      AttentionPattern pattern = causal();
      pattern.causal = is_causal;
      pattern.sequence_length = kTokens;
      pattern.sparse = {.block = kBlock, .num_local_blocks = 4, .num_global_blocks = 1};
      if (mask) {
        pattern.sparse.mask_blocks = kBlocks;
        for (int64_t i = 0; i < kBlocks * kBlocks; ++i)
          pattern.sparse.mask.push_back(static_cast<uint8_t>(random() % 8 == 0));
      }
      const SharedPattern shared(std::move(pattern));
      double best = 1e9, uneven = 0;
      for (int round = 0; round < 3; ++round) {
        const double start = cpu_seconds();
        const BatchPlan plan(1, 4, 1, shared, 1);
        uneven = imbalance(plan.layout, shared);
        best = std::min(best, cpu_seconds() - start);
        EXPECT_EQ(plan.up.size(), 4U);
      }
      EXPECT_LT(best, 0.1) << "causal " << is_causal << " mask " << mask;
      EXPECT_TRUE(uneven >= 1 && uneven < 1.05) << uneven;
    }
}

// Layers bring the same pattern, or one that is equal; both find the plan.
TEST(PlanCache, OnePlanABatch) {
  AttentionPattern pattern = causal({{0, 9, 30}, {0, 37}});
  pattern.sequence_length = 37;
  PlanCache plans(1, 2, 1);
  const SharedPattern first(pattern), equal(pattern);
  const auto plan = plans.get(first, 2);
  EXPECT_EQ(plans.get(first, 2), plan);
  EXPECT_EQ(plans.get(equal, 2), plan);
  EXPECT_EQ(plans.get(equal, 2), plan);
  EXPECT_EQ(plans.plans_made(), 1);
  pattern.documents[0][1] = 10;
  EXPECT_NE(plans.get(pattern, 2), plan);
  EXPECT_EQ(plans.plans_made(), 2);
}

TEST(RowSets, UniteAndSlice) {
  EXPECT_EQ(union_of({{0, 4}, {10, 5}}, {{2, 3}, {15, 1}}), (RowSet{{0, 5}, {10, 6}}));
  EXPECT_EQ(union_of({}, {{3, 2}}), (RowSet{{3, 2}}));
  EXPECT_EQ(slice_of({{0, 4}, {10, 5}}, 3, 3), (RowSet{{3, 1}, {10, 2}}));
  EXPECT_EQ(slice_of({{0, 4}}, 4, 0), RowSet());
  EXPECT_EQ(count_of({{0, 4}, {10, 5}}), 9);
}

TEST(Shard, UnshardGivesTheTensorBack) {
  const AttentionPattern pattern = causal({{0, 9, 30}, {0, 37}, {0, 1, 2, 20}});
  const at::Tensor full = at::arange(3 * 37 * 2, at::kDouble).view({3, 37, 2});
  for (const bool ring_inner : {false, true})
    run_thread_ranks(6, [&](Communicator& world) {
      const SequenceLayout layout({2, 3, ring_inner}, pattern, 3, 37);
      const at::Tensor leaf = full.clone().requires_grad_(true);
      const at::Tensor local = shard(leaf, layout, world.rank());
      EXPECT_EQ(local.size(1), layout.count(world.rank()));
      EXPECT_TRUE(at::equal(unshard(local, layout, world), full));
      torch::autograd::backward({local.sum()}, {});  // to the rank's own rows, once each
      EXPECT_EQ(leaf.grad().sum().item().toDouble(), static_cast<double>(local.numel()));
    });
}

TEST(Shard, ABatchStaysTogether) {
  Batch batch;
  batch.input_ids = at::arange(2 * 20).view({2, 20});
  batch.labels = batch.input_ids + 100;
  batch.position_ids = batch.input_ids + 1000;
  batch.documents = {{0, 5, 20}, {0, 18}};
  AttentionPattern pattern;
  pattern.causal = true;
  int64_t rows = 0;
  for (int rank = 0; rank < 4; ++rank) {
    const SequenceShard part = shard_batch(batch, {2, 2, false}, rank, pattern);
    EXPECT_TRUE(at::equal(part.labels, part.input.input_ids + 100));
    EXPECT_TRUE(at::equal(part.input.position_ids, part.input.input_ids + 1000));
    EXPECT_EQ(part.input.pattern->documents, batch.documents);
    EXPECT_EQ(part.input.pattern->sequence_length, 20);
    EXPECT_EQ(part.input.sequence_length, 18);
    rows += part.labels.size(1);
  }
  EXPECT_EQ(rows, 20);
  EXPECT_TRUE(
      at::equal(shard_batch(batch, {3, 1, false}, 1, {}).input.input_ids, batch.input_ids.narrow(1, 7, 7)));
}

}  // namespace
}  // namespace ithaca
