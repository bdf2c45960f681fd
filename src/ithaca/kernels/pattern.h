// Which row may attend to which, as arithmetic on global positions: never an [S, S] tensor.
// Shape letters: B batch, S rows of the sequence, H query heads, K kv heads, D head size.
#pragma once
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace ithaca {

// Which of the model's heads a tensor holds. Shapes alone do not say the pairing: query head h reads kv head
// floor(h * K / H), so a rank's group can be irregular (9 query and 3 kv heads on 2 ranks: 5 query heads over
// kv 0 0 0 1 1), and ALiBi needs the global head.
struct HeadRange {
  int64_t q_begin = 0, q_count = 0, q_total = 0;     // H = q_total
  int64_t kv_begin = 0, kv_count = 0, kv_total = 0;  // K = kv_total

  static HeadRange all(int64_t q_heads, int64_t kv_heads) {
    return {0, q_heads, q_heads, 0, kv_heads, kv_heads};
  }
  // Local kv head that local query head h reads.
  int64_t kv_of(int64_t h) const { return (q_begin + h) * kv_total / q_total - kv_begin; }
  bool operator==(const HeadRange&) const = default;
};

// Rows of a tensor as runs of consecutive global positions, in the order in which they lie in the tensor.
struct RowRun {
  int64_t start = 0, length = 0;
  bool operator==(const RowRun&) const = default;
};
using Rows = std::vector<RowRun>;

// Block-sparse attention on blocks of `block` consecutive global positions. Either the fixed pattern (Child
// et al. 2019, arXiv 1904.10509, section 4.3, in DeepSpeed's key names): a block sees the blocks of its own
// window of num_local_blocks and the last num_global_blocks of every window; or a mask of blocks given by
// the user. Causality, where asked, cuts on top of it.
struct SparseBlocks {
  int64_t block = 0;  // positions a block; 0: not sparse
  int64_t num_local_blocks = 0, num_global_blocks = 0;
  int64_t mask_blocks = 0;  // above 0: the mask is [mask_blocks, mask_blocks], row-major, query block first;
  std::vector<uint8_t> mask = {};  // blocks outside it see nothing and are not seen

  bool enabled() const { return block > 0; }
  bool allows(int64_t q_block, int64_t k_block) const;
  // How many of the blocks [begin, end) a block of queries sees.
  int64_t allowed_blocks(int64_t q_block, int64_t begin, int64_t end) const;
  bool operator==(const SparseBlocks&) const = default;
};

struct AttentionPattern {
  bool causal = true;
  double scale = 0;  // of q.k; 0: 1 / sqrt(D)
  // Per batch row the document bounds (cu_seqlens) as global positions: 0 = b0 <= b1 <= ... Rows from the
  // last bound on are padding: they attend to nothing and nothing attends to them. Empty: the whole row is
  // one document.
  std::vector<std::vector<int64_t>> documents = {};
  // Rows of the whole sequence, padding included, where a tensor may hold only part of them; 0: the rows at
  // hand are all.
  int64_t sequence_length = 0;
  // Sliding window: query i sees key j only if i - j < window (and j - i < window where not causal), as
  // transformers' sliding_window; 0: no window.
  int64_t window = 0;
  // ALiBi (Press et al. 2021, arXiv 2108.12409): -slope[h] * |i - j| is added to the scaled score, h the
  // global query head (HeadRange::q_total slopes). Empty: none.
  std::vector<double> alibi_slopes = {};
  SparseBlocks sparse = {};

  bool operator==(const AttentionPattern&) const = default;
};

// The slopes of ALiBi for `heads` query heads: the geometric sequence from 2^(-8/n) for n a power of two,
// else that of the next lower power of two and every second of the next higher one's (the paper's code).
std::vector<double> alibi_slopes(int64_t heads);

// A pattern that layers and what they keep for the backward share: copied once, when it is made of a value.
class SharedPattern {
 public:
  SharedPattern(AttentionPattern pattern = {})  // NOLINT(google-explicit-constructor)
      : pattern_(std::make_shared<const AttentionPattern>(std::move(pattern))) {}
  operator const AttentionPattern&() const { return *pattern_; }  // NOLINT(google-explicit-constructor)
  const AttentionPattern& operator*() const { return *pattern_; }
  const AttentionPattern* operator->() const { return pattern_.get(); }
  // By value; of one object without looking.
  bool operator==(const SharedPattern& other) const {
    return pattern_ == other.pattern_ || *pattern_ == *other.pattern_;
  }

 private:
  std::shared_ptr<const AttentionPattern> pattern_;
};

// How much of a rectangle of query positions [q_begin, q_end) and key positions [k_begin, k_end) of one
// document the pattern allows. Exact: kNone is never said of a rectangle with an allowed pair, kAll never of
// one with a forbidden pair, and kSome is neither.
enum class Reach { kNone, kSome, kAll };
Reach reach(const AttentionPattern& pattern, int64_t q_begin, int64_t q_end, int64_t k_begin, int64_t k_end);

// The keys of the same rectangle that some query of it sees, as runs; with sparse blocks, of each block of keys those from
// the first seen to the last.
Rows seen_keys(const AttentionPattern& pattern, int64_t q_begin, int64_t q_end, int64_t k_begin,
               int64_t k_end);

// Pairs of one document, in the same rectangle, that the pattern allows.
int64_t allowed_pairs(const AttentionPattern& pattern, int64_t q_begin, int64_t q_end, int64_t k_begin,
                      int64_t k_end);

// Pairs that these rows of batch row `batch_row` attend to, over all documents: the work of one head.
int64_t attention_area(const AttentionPattern& pattern, int64_t batch_row, const Rows& q_rows,
                       const Rows& k_rows);

}  // namespace ithaca
