// The arithmetic of patterns against counting pair by pair.
#include "ithaca/kernels/pattern.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// The definition, one pair at a time (pattern.h in words).
bool sees(const AttentionPattern& p, int64_t i, int64_t j) {
  if (p.causal && j > i) return false;
  if (p.window > 0 && std::abs(i - j) >= p.window) return false;
  const SparseBlocks& s = p.sparse;
  if (s.block == 0) return true;
  const int64_t qb = i / s.block, kb = j / s.block;
  if (s.mask_blocks > 0)
    return qb < s.mask_blocks && kb < s.mask_blocks &&
           s.mask[static_cast<std::size_t>(qb * s.mask_blocks + kb)] != 0;
  return qb / s.num_local_blocks == kb / s.num_local_blocks ||
         kb % s.num_local_blocks >= s.num_local_blocks - s.num_global_blocks;
}

SparseBlocks fixed_blocks(int64_t block, int64_t local, int64_t global) {
  return {.block = block, .num_local_blocks = local, .num_global_blocks = global};
}

SparseBlocks mask_blocks(int64_t block, int64_t n, uint64_t seed) {
  std::mt19937_64 engine(seed);
  SparseBlocks sparse{.block = block, .mask_blocks = n};
  for (int64_t i = 0; i < n * n; ++i) sparse.mask.push_back(static_cast<uint8_t>(engine() % 2));
  return sparse;
}

std::vector<AttentionPattern> patterns() {
  std::vector<AttentionPattern> all;
  for (const bool causal : {true, false})
    for (const int64_t window : {0, 1, 2, 5, 30})
      for (const SparseBlocks& sparse : {SparseBlocks{}, fixed_blocks(3, 2, 1), fixed_blocks(4, 3, 0),
                                         fixed_blocks(1, 2, 2), mask_blocks(4, 4, 1), mask_blocks(5, 2, 2)})
        all.push_back({.causal = causal, .window = window, .sparse = sparse});
  return all;
}

TEST(Pattern, ReachAndPairsEqualCounting) {
  constexpr int64_t kEnd = 18;
  int64_t rectangles = 0;
  for (const AttentionPattern& pattern : patterns()) {
    // counted[i][j]: pairs seen among queries below i and keys below j.
    int64_t counted[kEnd + 1][kEnd + 1] = {};
    for (int64_t i = 0; i < kEnd; ++i)
      for (int64_t j = 0; j < kEnd; ++j)
        counted[i + 1][j + 1] =
            counted[i][j + 1] + counted[i + 1][j] - counted[i][j] + (sees(pattern, i, j) ? 1 : 0);
    for (int64_t q0 = 0; q0 <= kEnd; ++q0)
      for (int64_t q1 = q0; q1 <= kEnd; ++q1)
        for (int64_t k0 = 0; k0 <= kEnd; ++k0)
          for (int64_t k1 = k0; k1 <= kEnd; ++k1) {
            const int64_t pairs = counted[q1][k1] - counted[q0][k1] - counted[q1][k0] + counted[q0][k0];
            const Reach want = pairs == 0                       ? Reach::kNone
                               : pairs == (q1 - q0) * (k1 - k0) ? Reach::kAll
                                                                : Reach::kSome;
            ASSERT_EQ(allowed_pairs(pattern, q0, q1, k0, k1), pairs)
                << q0 << " " << q1 << " " << k0 << " " << k1 << " causal " << pattern.causal << " window "
                << pattern.window << " block " << pattern.sparse.block;
            ASSERT_EQ(reach(pattern, q0, q1, k0, k1), want)
                << q0 << " " << q1 << " " << k0 << " " << k1 << " causal " << pattern.causal << " window "
                << pattern.window << " block " << pattern.sparse.block;
            ++rectangles;
          }
  }
  EXPECT_GT(rectangles, 1'000'000);
}

// Exact runs; with sparse blocks, of each block of keys what lies between its first and its last seen key.
TEST(Pattern, SeenKeysEqualCounting) {
  constexpr int64_t kEnd = 23;
  int64_t rectangles = 0, seen = 0;
  for (const AttentionPattern& pattern : patterns())
    for (int64_t q0 = 0; q0 <= kEnd; q0 += 2)
      for (int64_t q1 = q0; q1 <= kEnd; ++q1)
        for (int64_t k0 = 0; k0 <= kEnd; k0 += 3)
          for (int64_t k1 = k0; k1 <= kEnd; k1 += 2) {
            const int64_t block = pattern.sparse.enabled() ? pattern.sparse.block : kEnd + 1;
            std::vector<bool> want(static_cast<std::size_t>(kEnd));
            for (int64_t b = k0 / block; b * block < k1; ++b) {
              int64_t first = -1, last = -1;
              for (int64_t j = std::max(k0, b * block); j < std::min(k1, (b + 1) * block); ++j)
                for (int64_t i = q0; i < q1; ++i)
                  if (sees(pattern, i, j)) {
                    if (first < 0) first = j;
                    last = j;
                  }
              for (int64_t j = first; first >= 0 && j <= last; ++j) want[static_cast<std::size_t>(j)] = true;
            }
            std::vector<bool> got(static_cast<std::size_t>(kEnd));
            int64_t end = -1;
            for (const RowRun run : seen_keys(pattern, q0, q1, k0, k1)) {
              ASSERT_GT(run.length, 0);
              ASSERT_GT(run.start, end) << "runs that touch are one";
              end = run.start + run.length;
              for (int64_t j = run.start; j < end; ++j) got[static_cast<std::size_t>(j)] = true;
            }
            ASSERT_EQ(got, want) << q0 << " " << q1 << " " << k0 << " " << k1 << " causal " << pattern.causal
                                 << " window " << pattern.window << " block " << pattern.sparse.block;
            ++rectangles;
            seen += end > 0;
          }
  EXPECT_GT(rectangles, 500'000);
  EXPECT_GT(seen, 100'000);
}

TEST(Pattern, PairsOfLongSequencesDoNotOverflow) {
  const int64_t n = int64_t{1} << 30;
  EXPECT_EQ(allowed_pairs({}, 0, n, 0, n), n * (n + 1) / 2);
  EXPECT_EQ(allowed_pairs({.causal = false}, 0, n, 0, n), n * n);
  EXPECT_EQ(allowed_pairs({.window = 4096}, n, 2 * n, 0, 2 * n), n * 4096);
  EXPECT_EQ(reach({.window = 4096}, n, 2 * n, 0, n - 4095), Reach::kNone);
}

TEST(Pattern, AreaCountsPairsOfEveryDocument) {
  std::mt19937_64 engine(3);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(engine() % static_cast<uint64_t>(n)); };
  int64_t seen = 0;
  for (const AttentionPattern& base : patterns()) {
    AttentionPattern pattern = base;
    std::vector<int64_t> bounds{0};
    while (bounds.back() < 20) bounds.push_back(bounds.back() + below(8));
    pattern.documents = {{0, 5}, bounds};
    const Rows q_rows{{12, 6}, {0, 4}, {4, 3}}, k_rows{{3, 7}, {14, 9}, {0, 2}};
    int64_t want = 0;
    const auto document_of = [&](int64_t i) {
      return i >= bounds.back() ? -1 : std::upper_bound(bounds.begin(), bounds.end(), i) - bounds.begin();
    };
    for (const RowRun& q : q_rows)
      for (int64_t i = q.start; i < q.start + q.length; ++i)
        for (const RowRun& k : k_rows)
          for (int64_t j = k.start; j < k.start + k.length; ++j)
            want += document_of(i) >= 0 && document_of(i) == document_of(j) && sees(pattern, i, j) ? 1 : 0;
    EXPECT_EQ(attention_area(pattern, 1, q_rows, k_rows), want);
    seen += want;
  }
  EXPECT_GT(seen, 1000);
  EXPECT_EQ(attention_area({}, 0, {{2, 2}}, {{0, 4}}), 7);
  EXPECT_EQ(attention_area({}, 0, {}, {{0, 4}}), 0);
}

// Press et al. 2021: 8 heads have 2^-1 ... 2^-8; 6 heads the 4 of 4 heads and every second of 8 heads'.
TEST(Pattern, AlibiSlopesAreThePapers) {
  EXPECT_THAT(alibi_slopes(8),
              testing::ElementsAre(1. / 2, 1. / 4, 1. / 8, 1. / 16, 1. / 32, 1. / 64, 1. / 128, 1. / 256));
  EXPECT_THAT(alibi_slopes(6), testing::ElementsAre(1. / 4, 1. / 16, 1. / 64, 1. / 256, 1. / 2, 1. / 8));
  EXPECT_THAT(alibi_slopes(1), testing::ElementsAre(1. / 256));
}

}  // namespace
}  // namespace ithaca
