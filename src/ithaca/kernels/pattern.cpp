#include "ithaca/kernels/pattern.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ithaca/kernels/attention_plan.h"

namespace ithaca {
namespace {

// Distances i - j of query i and key j that causality and the window allow.
struct Distances {
  int64_t low = 0, high = 0;  // both included
};

constexpr int64_t kFar = std::numeric_limits<int64_t>::max() / 4;

Distances allowed_distances(const AttentionPattern& pattern) {
  const int64_t reach = pattern.window > 0 ? pattern.window - 1 : kFar;
  return {pattern.causal ? 0 : -reach, reach};
}

Reach dense_reach(Distances allowed, int64_t q_begin, int64_t q_end, int64_t k_begin, int64_t k_end) {
  // The distances of a rectangle are all integers between those of two of its corners.
  const int64_t low = q_begin - (k_end - 1), high = q_end - 1 - k_begin;
  if (low > allowed.high || high < allowed.low) return Reach::kNone;
  return low >= allowed.low && high <= allowed.high ? Reach::kAll : Reach::kSome;
}

// Pairs of the rectangle with i - j <= d.
int64_t pairs_up_to(int64_t d, int64_t q_begin, int64_t q_end, int64_t k_begin, int64_t k_end) {
  // Query i sees the keys from i - d on: min(n, max(0, k_end - (i - d))) of them.
  const int64_t rows = q_end - q_begin, keys = k_end - k_begin;
  const int64_t full_rows = std::clamp<int64_t>(k_begin + d - q_begin + 1, 0, rows);
  const int64_t some_rows = std::clamp<int64_t>(k_end + d - q_begin, 0, rows);  // up to where one key is seen
  const int64_t first = k_end + d - (q_begin + full_rows);  // keys of the first partial row
  const int64_t partial = some_rows - full_rows;
  return full_rows * keys + partial * first - partial * (partial - 1) / 2;
}

int64_t dense_pairs(Distances allowed, int64_t q_begin, int64_t q_end, int64_t k_begin, int64_t k_end) {
  const int64_t rows = q_end - q_begin, keys = k_end - k_begin;
  if (rows <= 0 || keys <= 0) return 0;
  switch (dense_reach(allowed, q_begin, q_end, k_begin, k_end)) {
    case Reach::kNone:
      return 0;
    case Reach::kAll:
      return rows * keys;
    case Reach::kSome:
      break;
  }
  // Beyond the corners every pair counts: keeps the arithmetic far from the limits of int64.
  const int64_t high = std::min(allowed.high, q_end - 1 - k_begin);
  const int64_t low = std::max(allowed.low, q_begin - (k_end - 1));
  return pairs_up_to(high, q_begin, q_end, k_begin, k_end) -
         pairs_up_to(low - 1, q_begin, q_end, k_begin, k_end);
}

// Calls f(allowed, q0, q1, k0, k1) for each part of the rectangle inside one pair of sparse blocks.
template <class F>
void for_each_block_pair(const SparseBlocks& sparse, int64_t q_begin, int64_t q_end, int64_t k_begin,
                         int64_t k_end, F f) {
  const int64_t block = sparse.block;
  for (int64_t q = q_begin; q < q_end; q = (q / block + 1) * block)
    for (int64_t k = k_begin; k < k_end; k = (k / block + 1) * block)
      f(sparse.allows(q / block, k / block), q, std::min(q_end, (q / block + 1) * block), k,
        std::min(k_end, (k / block + 1) * block));
}

}  // namespace

bool SparseBlocks::allows(int64_t q_block, int64_t k_block) const {
  if (mask_blocks > 0)
    return q_block < mask_blocks && k_block < mask_blocks &&
           mask[static_cast<std::size_t>(q_block * mask_blocks + k_block)] != 0;
  return q_block / num_local_blocks == k_block / num_local_blocks ||
         k_block % num_local_blocks >= num_local_blocks - num_global_blocks;
}

std::vector<double> alibi_slopes(int64_t heads) {
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<double> slopes;
  const auto slope = [](int64_t i, int64_t n) {
    return std::exp2(-8.0 * static_cast<double>(i) / static_cast<double>(n));
  };
  for (int64_t i = 1; i <= power; ++i) slopes.push_back(slope(i, power));
  for (int64_t i = 1; static_cast<int64_t>(slopes.size()) < heads; i += 2)
    slopes.push_back(slope(i, 2 * power));
  return slopes;
}

Reach reach(const AttentionPattern& pattern, int64_t q_begin, int64_t q_end, int64_t k_begin, int64_t k_end) {
  if (q_begin >= q_end || k_begin >= k_end) return Reach::kNone;
  const Distances allowed = allowed_distances(pattern);
  const Reach dense = dense_reach(allowed, q_begin, q_end, k_begin, k_end);
  if (dense == Reach::kNone || !pattern.sparse.enabled()) return dense;
  bool any = false, all = true;
  for_each_block_pair(pattern.sparse, q_begin, q_end, k_begin, k_end,
                      [&](bool seen, int64_t q0, int64_t q1, int64_t k0, int64_t k1) {
                        const Reach part = seen ? dense_reach(allowed, q0, q1, k0, k1) : Reach::kNone;
                        any = any || part != Reach::kNone;
                        all = all && part == Reach::kAll;
                      });
  return all ? Reach::kAll : any ? Reach::kSome : Reach::kNone;
}

int64_t allowed_pairs(const AttentionPattern& pattern, int64_t q_begin, int64_t q_end, int64_t k_begin,
                      int64_t k_end) {
  const Distances allowed = allowed_distances(pattern);
  if (!pattern.sparse.enabled()) return dense_pairs(allowed, q_begin, q_end, k_begin, k_end);
  int64_t pairs = 0;
  for_each_block_pair(pattern.sparse, q_begin, q_end, k_begin, k_end,
                      [&](bool seen, int64_t q0, int64_t q1, int64_t k0, int64_t k1) {
                        if (seen) pairs += dense_pairs(allowed, q0, q1, k0, k1);
                      });
  return pairs;
}

int64_t attention_area(const AttentionPattern& pattern, int64_t batch_row, const Rows& q_rows,
                       const Rows& k_rows) {
  static const std::vector<int64_t> kOneDocument;
  const std::vector<int64_t>& bounds =
      pattern.documents.empty() ? kOneDocument : pattern.documents[static_cast<std::size_t>(batch_row)];
  int64_t pairs = 0;
  for (const DocumentRows& document : document_rows(q_rows, k_rows, bounds))
    for (const Piece& q : document.q)
      for (const Piece& k : document.k)
        pairs += allowed_pairs(pattern, q.start, q.start + q.length, k.start, k.start + k.length);
  return pairs;
}

}  // namespace ithaca
