// Which rows of a sequence lie on which rank, and tensors and batches cut accordingly. The grid: ring degree x
// ulysses degree. Ring rank r holds the rows that config/layout.h (ring_rows) gives it: contiguous, or zigzag
// where work grows along the sequence, or whole documents; of these Ulysses rank u holds the u-th near-even
// part. With a ring degree of 1 that is Ulysses' contiguous split. No row is ever added: where rows do not
// divide, the first ranks hold one more.
#pragma once
#include <cstdint>
#include <vector>

#include "ithaca/config/layout.h"
#include "ithaca/data/batch.h"
#include "ithaca/models/decoder.h"

namespace ithaca {

class Communicator;

// Rows by rank: sums to `length`.
std::vector<int64_t> contiguous_split(int64_t length, int ranks);

// Which of the ranks of one sequence forms which group. sequence_parallel_order: ulysses_inner puts a Ulysses
// group on adjacent ranks (rank = ring index * ulysses + ulysses index), ring_inner a ring.
struct SequenceGrid {
  int ulysses = 1, ring = 1;
  bool ring_inner = false;

  int size() const { return ulysses * ring; }
  int ulysses_index(int rank) const { return ring_inner ? rank / ring : rank % ulysses; }
  int ring_index(int rank) const { return ring_inner ? rank % ring : rank / ulysses; }
};

// The pattern as config/layout.h takes it. `pattern` must outlive the rules.
PairRules pair_rules(const AttentionPattern& pattern);

// The rows of every rank of a sequence. Computed from the pattern alone, so alike on every rank.
class SequenceLayout {
 public:
  // `batch` rows of `length` tokens; pattern.documents as in kernels/pattern.h.
  SequenceLayout(const SequenceGrid& grid, const AttentionPattern& pattern, int64_t batch, int64_t length);

  const SequenceGrid& grid() const { return grid_; }
  int64_t length() const { return length_; }
  int64_t count(int rank) const;                              // rows of a rank, in every batch row
  RowSet rows(int64_t batch_row, int rank) const;             // in the order of its tensors
  std::vector<int64_t> ulysses_counts(int ring_index) const;  // by Ulysses rank of that ring rank
  // By batch row and ring rank; a single entry where no batch row differs from another.
  const std::vector<std::vector<RowSet>>& ring_rows() const { return ring_rows_; }
  // By rank: pairs of one head that its rows attend to, over the batch.
  std::vector<int64_t> areas(const AttentionPattern& pattern) const;

 private:
  SequenceGrid grid_;
  int64_t batch_, length_;
  std::vector<std::vector<RowSet>> ring_rows_;
};

// max / mean over ring ranks of the attention area that one of them computes; 1 where there is none.
double imbalance(const SequenceLayout& layout, const AttentionPattern& pattern);

// This rank's part of a tensor that holds whole sequences: [B, T, ...] -> [B, S, ...]. Differentiable.
at::Tensor shard(const at::Tensor& full, const SequenceLayout& layout, int rank);
// Back: [B, S, ...] of every rank -> [B, T, ...] on every rank. `group`: the ranks of the sequence, in order.
// Collective; not differentiable.
at::Tensor unshard(const at::Tensor& local, const SequenceLayout& layout, Communicator& group);

// One rank's part of a batch, as the decoder takes it. Labels were shifted before the cut, positions and
// document bounds stay global.
struct SequenceShard {
  DecoderInput input;
  at::Tensor labels;  // [B, S]
};
// `pattern`: causal, window, sparse blocks and slopes of the run; documents and length are those of the batch.
SequenceShard shard_batch(const Batch& batch, const SequenceGrid& grid, int rank,
                          const AttentionPattern& pattern);
// The same in two steps, for who has a plan of the batch (batch_plan.h).
SharedPattern pattern_of_batch(const AttentionPattern& pattern, const Batch& batch);
SequenceShard shard_batch(const Batch& batch, const SharedPattern& pattern, const SequenceLayout& layout,
                          int rank);

}  // namespace ithaca
