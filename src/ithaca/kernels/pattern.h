// Which row may attend to which, as arithmetic on global positions: never an [S, S] tensor.
// Shape letters: B batch, S rows of the sequence, H query heads, K kv heads, D head size.
#pragma once
#include <cstdint>
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

struct AttentionPattern {
  bool causal = true;
  double scale = 0;  // of q.k; 0: 1 / sqrt(D)
  // Per batch row the document bounds (cu_seqlens) as global positions: 0 = b0 <= b1 <= ... Rows from the
  // last bound on are padding: they attend to nothing and nothing attends to them. Empty: the whole row is
  // one document.
  std::vector<std::vector<int64_t>> documents;
  // Rows of the whole sequence, padding included, where a tensor may hold only part of them; 0: the rows at
  // hand are all.
  int64_t sequence_length = 0;
};

}  // namespace ithaca
