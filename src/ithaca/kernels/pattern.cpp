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

// Queries [q0, q1) of one sparse block against the keys of a rectangle: work in proportion to the blocks at the edges of
// what causality and the window leave, and one look at the mask's row between them.
class BlockRow {
 public:
  BlockRow(const SparseBlocks& sparse, Distances allowed, int64_t q0, int64_t q1, int64_t k_begin,
           int64_t k_end)
      : sparse_(sparse), allowed_(allowed), q0_(q0), q1_(q1), k_begin_(k_begin), k_end_(k_end) {
    // Seen by some of the queries, and by all, as far as distances go.
    some_begin_ = std::max(k_begin, q0 - allowed.high);
    some_end_ = std::min(k_end, q1 - allowed.low);
    const int64_t all_begin = std::max(k_begin, q1 - 1 - allowed.high),
                  all_end = std::min(k_end, q0 - allowed.low + 1);
    if (empty()) return;
    const int64_t block = sparse.block;
    first_ = some_begin_ / block;
    last_ = (some_end_ - 1) / block + 1;
    inner_first_ = all_begin <= k_begin ? first_ : std::min(last_, (all_begin + block - 1) / block);
    inner_last_ = std::max(inner_first_, all_end >= k_end ? last_ : all_end / block);
  }
  bool empty() const { return some_begin_ >= some_end_; }
  int64_t q_block() const { return q0_ / sparse_.block; }
  int64_t queries() const { return q1_ - q0_; }

  // Blocks [inner_first, inner_last): every query sees every key that the rectangle has of an allowed one.
  int64_t inner_first() const { return inner_first_; }
  int64_t inner_last() const { return inner_last_; }
  // Calls f(block) for the allowed blocks at the edges, of which only some keys are seen by some queries.
  template <class F>
  void for_each_edge(F f) const {
    for (int64_t b = first_; b < last_; ++b) {
      if (b == inner_first_) b = inner_last_;
      if (b < last_ && sparse_.allows(q_block(), b)) f(b);
    }
  }
  RowRun keys_of(int64_t block) const {  // in the rectangle
    const int64_t begin = std::max(k_begin_, block * sparse_.block),
                  end = std::min(k_end_, (block + 1) * sparse_.block);
    return {begin, end - begin};
  }
  RowRun seen_of(int64_t block) const {  // by some query
    const RowRun keys = keys_of(block);
    const int64_t begin = std::max(keys.start, some_begin_),
                  end = std::min(keys.start + keys.length, some_end_);
    return {begin, end - begin};
  }

  int64_t pairs() const {  // that are allowed
    if (empty()) return 0;
    int64_t pairs = (q1_ - q0_) * inner_keys();
    for_each_edge([&](int64_t b) {
      const RowRun of = keys_of(b);
      pairs += dense_pairs(allowed_, q0_, q1_, of.start, of.start + of.length);
    });
    return pairs;
  }

 private:
  // Of allowed blocks; the rectangle may cut the outermost.
  int64_t inner_keys() const {
    const auto cut = [&](int64_t b) { return sparse_.allows(q_block(), b) ? keys_of(b).length : 0; };
    if (inner_last_ - inner_first_ < 2) return inner_first_ < inner_last_ ? cut(inner_first_) : 0;
    return cut(inner_first_) + cut(inner_last_ - 1) +
           sparse_.allowed_blocks(q_block(), inner_first_ + 1, inner_last_ - 1) * sparse_.block;
  }

  const SparseBlocks& sparse_;
  Distances allowed_;
  int64_t q0_, q1_, k_begin_, k_end_;
  int64_t some_begin_ = 0, some_end_ = 0;
  int64_t first_ = 0, last_ = 0, inner_first_ = 0, inner_last_ = 0;
};

// Calls f(BlockRow) for the queries of each sparse block until it returns false.
template <class F>
void for_each_block_row(const AttentionPattern& pattern, int64_t q_begin, int64_t q_end, int64_t k_begin,
                        int64_t k_end, F f) {
  const Distances allowed = allowed_distances(pattern);
  const int64_t block = pattern.sparse.block;
  for (int64_t q = q_begin, next = 0; q < q_end; q = next) {
    next = std::min(q_end, (q / block + 1) * block);
    if (!f(BlockRow(pattern.sparse, allowed, q, next, k_begin, k_end))) return;
  }
}

// Which blocks of keys of a rectangle are seen, wholly or from a first key to a last.
class SeenBlocks {
 public:
  SeenBlocks(const SparseBlocks& sparse, int64_t first, int64_t last)
      : sparse_(sparse), first_(first), whole_(static_cast<std::size_t>(last - first)) {}

  void add(const BlockRow& row) {
    if (row.empty()) return;
    mark(row);
    row.for_each_edge([&](int64_t block) { parts_.push_back({block, row.seen_of(block)}); });
  }

  // keys_of(block): the keys that the rectangle has of it.
  template <class F>
  Rows runs(F keys_of) {
    std::sort(parts_.begin(), parts_.end(), [](const Part& a, const Part& b) { return a.block < b.block; });
    Rows runs;
    auto part = parts_.begin();
    for (std::size_t i = 0; i < whole_.size(); ++i) {
      const int64_t block = first_ + static_cast<int64_t>(i);
      int64_t begin = std::numeric_limits<int64_t>::max(), end = 0;
      const auto widen = [&](RowRun run) {
        begin = std::min(begin, run.start);
        end = std::max(end, run.start + run.length);
      };
      for (; part != parts_.end() && part->block == block; ++part) widen(part->keys);
      if (whole_[i]) widen(keys_of(block));
      if (begin >= end) continue;
      if (!runs.empty() && runs.back().start + runs.back().length == begin) {
        runs.back().length += end - begin;
      } else {
        runs.push_back({begin, end - begin});
      }
    }
    return runs;
  }

 private:
  struct Part {
    int64_t block;
    RowRun keys;
  };

  void mark(const BlockRow& row) {
    const int64_t begin = row.inner_first(), end = row.inner_last();
    if (sparse_.mask_blocks > 0) {
      if (row.q_block() >= sparse_.mask_blocks) return;
      const uint8_t* from = sparse_.mask.data() + row.q_block() * sparse_.mask_blocks + begin;
      uint8_t* to = whole_.data() + (begin - first_);
      for (int64_t i = 0; i < std::min(end, sparse_.mask_blocks) - begin; ++i) to[i] |= from[i];
      return;
    }
    const auto set = [&](int64_t block) { whole_[static_cast<std::size_t>(block - first_)] = 1; };
    const int64_t window = sparse_.num_local_blocks, own = row.q_block() / window * window;
    for (int64_t b = std::max(begin, own); b < std::min(end, own + window); ++b) set(b);
    // Blocks that every query sees: those up to here were marked for the queries before.
    for (int64_t b = std::max(begin, global_until_); b < end; ++b)
      if (b % window >= window - sparse_.num_global_blocks) set(b);
    global_until_ = std::max(global_until_, end);
  }

  const SparseBlocks& sparse_;
  int64_t first_, global_until_ = 0;
  std::vector<uint8_t> whole_;
  std::vector<Part> parts_;
};

}  // namespace

bool SparseBlocks::allows(int64_t q_block, int64_t k_block) const {
  if (mask_blocks > 0)
    return q_block < mask_blocks && k_block < mask_blocks &&
           mask[static_cast<std::size_t>(q_block * mask_blocks + k_block)] != 0;
  return q_block / num_local_blocks == k_block / num_local_blocks ||
         k_block % num_local_blocks >= num_local_blocks - num_global_blocks;
}

int64_t SparseBlocks::allowed_blocks(int64_t q_block, int64_t begin, int64_t end) const {
  if (mask_blocks > 0) {
    if (q_block >= mask_blocks) return 0;
    const uint8_t* row = mask.data() + q_block * mask_blocks;
    int64_t allowed = 0;
    for (int64_t k = begin; k < std::min(end, mask_blocks); ++k) allowed += row[k] != 0 ? 1 : 0;
    return allowed;
  }
  const auto global_below = [&](int64_t k) {
    return k / num_local_blocks * num_global_blocks +
           std::max<int64_t>(0, k % num_local_blocks - (num_local_blocks - num_global_blocks));
  };
  // The blocks of the own window that are not global: its first ones.
  const int64_t own = q_block / num_local_blocks * num_local_blocks,
                local = std::min(end, own + num_local_blocks - num_global_blocks) - std::max(begin, own);
  return global_below(end) - global_below(begin) + std::max<int64_t>(0, local);
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
  for_each_block_row(pattern, q_begin, q_end, k_begin, k_end, [&](const BlockRow& row) {
    const int64_t pairs = row.pairs();
    any = any || pairs > 0;
    all = all && pairs == row.queries() * (k_end - k_begin);
    return all || !any;
  });
  return all ? Reach::kAll : any ? Reach::kSome : Reach::kNone;
}

Rows seen_keys(const AttentionPattern& pattern, int64_t q_begin, int64_t q_end, int64_t k_begin,
               int64_t k_end) {
  if (q_begin >= q_end) return {};
  const Distances allowed = allowed_distances(pattern);
  const int64_t begin = std::max(k_begin, q_begin - allowed.high), end = std::min(k_end, q_end - allowed.low);
  if (begin >= end) return {};
  if (!pattern.sparse.enabled()) return {{begin, end - begin}};
  const int64_t block = pattern.sparse.block;
  SeenBlocks seen(pattern.sparse, begin / block, (end - 1) / block + 1);
  for_each_block_row(pattern, q_begin, q_end, k_begin, k_end, [&](const BlockRow& row) {
    seen.add(row);
    return true;
  });
  return seen.runs([&](int64_t b) {
    const int64_t first = std::max(k_begin, b * block), last = std::min(k_end, (b + 1) * block);
    return RowRun{first, last - first};
  });
}

int64_t allowed_pairs(const AttentionPattern& pattern, int64_t q_begin, int64_t q_end, int64_t k_begin,
                      int64_t k_end) {
  if (!pattern.sparse.enabled())
    return dense_pairs(allowed_distances(pattern), q_begin, q_end, k_begin, k_end);
  int64_t pairs = 0;
  for_each_block_row(pattern, q_begin, q_end, k_begin, k_end, [&](const BlockRow& row) {
    pairs += row.pairs();
    return true;
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
