#include "ithaca/parallel/sequence/layout.h"

#include <algorithm>
#include <numeric>

#include "ithaca/base/error.h"
#include "ithaca/base/split.h"

namespace ithaca {

std::vector<int64_t> contiguous_split(int64_t length, int ranks) {
  ITHACA_CHECK(length >= 0 && ranks > 0, "length=", length, " ranks=", ranks);
  std::vector<int64_t> rows(ranks);
  for (int r = 0; r < ranks; ++r) rows[r] = even_split(length, ranks, r).count;
  return rows;
}

SequenceShard shard_batch(const Batch& batch, int rank, int ranks) {
  const int64_t length = batch.input_ids.size(1);
  const std::vector<int64_t> rows = contiguous_split(length, ranks);
  const int64_t start = std::accumulate(rows.begin(), rows.begin() + rank, int64_t{0});
  const auto cut = [&](const at::Tensor& t) { return t.narrow(1, start, rows[rank]).contiguous(); };

  SequenceShard shard;
  shard.input.input_ids = cut(batch.input_ids);
  shard.input.position_ids = cut(batch.position_ids);
  shard.input.pattern.documents = batch.documents;
  shard.input.pattern.sequence_length = length;
  // Dynamic rope scaling looks at the largest position of the whole batch, on every rank the same.
  for (const std::vector<int64_t>& bounds : batch.documents)
    for (std::size_t i = 1; i < bounds.size(); ++i)
      shard.input.sequence_length = std::max(shard.input.sequence_length, bounds[i] - bounds[i - 1]);
  shard.labels = cut(batch.labels);
  return shard;
}

}  // namespace ithaca
