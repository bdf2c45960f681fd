#include "ithaca/parallel/sequence/layout.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <numeric>

#include "ithaca/base/error.h"
#include "ithaca/base/split.h"
#include "ithaca/comm/communicator.h"

namespace ithaca {
namespace {

// The rows of `t` [T, ...] that the set names, in its order.
at::Tensor take_rows(const at::Tensor& t, const RowSet& rows) {
  std::vector<at::Tensor> parts;
  for (const Share run : rows) parts.push_back(t.narrow(0, run.begin, run.count));
  if (parts.empty()) return t.narrow(0, 0, 0);
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

}  // namespace

std::vector<int64_t> contiguous_split(int64_t length, int ranks) {
  ITHACA_CHECK(length >= 0 && ranks > 0, "length=", length, " ranks=", ranks);
  std::vector<int64_t> rows(ranks);
  for (int r = 0; r < ranks; ++r) rows[r] = even_split(length, ranks, r).count;
  return rows;
}

PairRules pair_rules(const AttentionPattern& pattern) {
  PairRules rules;
  rules.zigzag = pattern.causal && pattern.window == 0;
  rules.pairs = [&pattern](Share q, Share k) {
    return allowed_pairs(pattern, q.begin, q.begin + q.count, k.begin, k.begin + k.count);
  };
  rules.seen = [&pattern](Share q, Share k) {
    RowSet keys;
    for (const RowRun run : seen_keys(pattern, q.begin, q.begin + q.count, k.begin, k.begin + k.count))
      keys.push_back({run.start, run.length});
    return keys;
  };
  return rules;
}

SequenceLayout::SequenceLayout(const SequenceGrid& grid, const AttentionPattern& pattern, int64_t batch,
                               int64_t length)
    : grid_(grid), batch_(batch), length_(length) {
  ITHACA_CHECK(grid.ulysses >= 1 && grid.ring >= 1 && length >= 0, "ulysses=", grid.ulysses,
               " ring=", grid.ring, " length=", length);
  ITHACA_CHECK(pattern.documents.empty() || static_cast<int64_t>(pattern.documents.size()) == batch,
               "bounds of ", pattern.documents.size(), " batch rows, expected ", batch);
  const PairRules rules = pair_rules(pattern);
  if (pattern.documents.empty() || grid.ring == 1) {
    ring_rows_.push_back(ithaca::ring_rows(length, {}, grid.ring, rules));
    return;
  }
  for (const std::vector<int64_t>& bounds : pattern.documents)
    ring_rows_.push_back(ithaca::ring_rows(length, bounds, grid.ring, rules));
  if (std::adjacent_find(ring_rows_.begin(), ring_rows_.end(), std::not_equal_to<>()) == ring_rows_.end())
    ring_rows_.resize(1);
}

std::vector<int64_t> SequenceLayout::ulysses_counts(int ring_index) const {
  return contiguous_split(even_split(length_, grid_.ring, ring_index).count, grid_.ulysses);
}

int64_t SequenceLayout::count(int rank) const {
  return ulysses_counts(grid_.ring_index(rank))[grid_.ulysses_index(rank)];
}

RowSet SequenceLayout::rows(int64_t batch_row, int rank) const {
  const int ring_index = grid_.ring_index(rank);
  const RowSet& all = ring_rows_[ring_rows_.size() == 1 ? 0 : batch_row][ring_index];
  const Share part = even_split(count_of(all), grid_.ulysses, grid_.ulysses_index(rank));
  return slice_of(all, part.begin, part.count);
}

std::vector<int64_t> SequenceLayout::areas(const AttentionPattern& pattern) const {
  const PairRules rules = pair_rules(pattern);
  std::vector<int64_t> areas(grid_.ring);
  for (int64_t b = 0; b < batch_; ++b)
    for (int r = 0; r < grid_.ring; ++r)
      areas[r] +=
          attention_pairs(ring_rows_[ring_rows_.size() == 1 ? 0 : b][r], length_,
                          pattern.documents.empty() ? std::vector<int64_t>() : pattern.documents[b], rules);
  return areas;
}

double imbalance(const SequenceLayout& layout, const AttentionPattern& pattern) {
  const std::vector<int64_t> areas = layout.areas(pattern);
  const int64_t total = std::accumulate(areas.begin(), areas.end(), int64_t{0});
  if (total == 0) return 1;
  return static_cast<double>(*std::max_element(areas.begin(), areas.end())) *
         static_cast<double>(areas.size()) / static_cast<double>(total);
}

at::Tensor shard(const at::Tensor& full, const SequenceLayout& layout, int rank) {
  ITHACA_CHECK(full.dim() >= 2 && full.size(1) == layout.length(), "a tensor ", full.sizes(),
               " does not hold sequences of ", layout.length(), " rows in dim 1");
  if (layout.ring_rows().size() == 1) {
    const at::Tensor rows_first = full.transpose(0, 1);
    return take_rows(rows_first, layout.rows(0, rank)).transpose(0, 1).contiguous();
  }
  std::vector<at::Tensor> parts;
  for (int64_t b = 0; b < full.size(0); ++b) parts.push_back(take_rows(full[b], layout.rows(b, rank)));
  return at::stack(parts);
}

at::Tensor unshard(const at::Tensor& local, const SequenceLayout& layout, Communicator& group) {
  const int64_t mine = layout.count(group.rank());
  ITHACA_CHECK(group.size() == layout.grid().size() && local.dim() >= 2 && local.size(1) == mine, "a tensor ",
               local.sizes(), " does not hold this rank's ", mine, " rows in dim 1");
  std::vector<int64_t> counts;
  for (int rank = 0; rank < group.size(); ++rank) counts.push_back(layout.count(rank));
  const at::Tensor mine_first = local.detach().transpose(0, 1).contiguous();
  std::vector<int64_t> sizes = mine_first.sizes().vec();
  sizes[0] = layout.length();
  at::Tensor by_rank = at::empty(sizes, local.options());
  group.all_gather(by_rank, mine_first, counts);

  at::Tensor full = at::empty(sizes, local.options()).transpose(0, 1);  // [B, T, ...]
  int64_t at = 0;
  for (int rank = 0; rank < group.size(); ++rank) {
    for (int64_t b = 0; b < local.size(0); ++b) {
      int64_t row = at;
      for (const Share run : layout.rows(b, rank)) {
        full[b].narrow(0, run.begin, run.count).copy_(by_rank.narrow(0, row, run.count).select(1, b));
        row += run.count;
      }
    }
    at += counts[rank];
  }
  return full.contiguous();
}

SharedPattern pattern_of_batch(const AttentionPattern& pattern, const Batch& batch) {
  AttentionPattern own = pattern;
  own.documents = batch.documents;
  own.sequence_length = batch.input_ids.size(1);
  return own;
}

SequenceShard shard_batch(const Batch& batch, const SequenceGrid& grid, int rank,
                          const AttentionPattern& pattern) {
  const SharedPattern own = pattern_of_batch(pattern, batch);
  return shard_batch(batch, own, SequenceLayout(grid, own, batch.input_ids.size(0), own->sequence_length),
                     rank);
}

SequenceShard shard_batch(const Batch& batch, const SharedPattern& pattern, const SequenceLayout& layout,
                          int rank) {
  SequenceShard part;
  part.input.pattern = pattern;
  part.input.input_ids = shard(batch.input_ids, layout, rank);
  part.input.position_ids = shard(batch.position_ids, layout, rank);
  part.labels = shard(batch.labels, layout, rank);
  // Dynamic rope scaling looks at the largest position of the whole batch, on every rank the same.
  for (const std::vector<int64_t>& bounds : batch.documents)
    for (std::size_t i = 1; i < bounds.size(); ++i)
      part.input.sequence_length = std::max(part.input.sequence_length, bounds[i] - bounds[i - 1]);
  return part;
}

}  // namespace ithaca
