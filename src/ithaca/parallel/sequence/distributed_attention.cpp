#include "ithaca/parallel/sequence/distributed_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <numeric>

#include "ithaca/base/error.h"
#include "ithaca/comm/communicator.h"
#include "ithaca/parallel/sequence/hybrid_attention.h"

namespace ithaca {

std::vector<int64_t> gather_row_counts(int64_t rows, Communicator& group) {
  const at::Tensor mine = at::full({1}, rows, at::kLong);
  at::Tensor all = at::empty({group.size()}, at::kLong);
  group.all_gather(all, mine);
  const int64_t* data = all.const_data_ptr<int64_t>();
  return {data, data + group.size()};
}

GridAttention::GridAttention(Communicator* ulysses, Communicator* ring, AttentionPattern pattern,
                             const SequenceAttentionOptions& options, DimOrder order)
    : ulysses_(ulysses),
      ring_(ring),
      order_(order),
      pattern_(std::move(pattern)),
      core_(ulysses ? sequence_attention(*ulysses, *ring, options) : ring_attention(*ring, options)) {}

at::Tensor GridAttention::operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
  return (*this)(q, k, v, std::vector<std::vector<int64_t>>());
}

at::Tensor GridAttention::operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const std::vector<int64_t>& cu_seqlens) const {
  return (*this)(
      q, k, v,
      std::vector<std::vector<int64_t>>(q.size(order_ == DimOrder::kSequenceFirst ? 1 : 0), cu_seqlens));
}

at::Tensor GridAttention::operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const std::vector<std::vector<int64_t>>& cu_seqlens) const {
  const auto in_order = [&](const at::Tensor& t) {
    return order_ == DimOrder::kSequenceFirst ? t.transpose(0, 1) : t;
  };
  const auto sum = [](const std::vector<int64_t>& counts) {
    return std::accumulate(counts.begin(), counts.end(), int64_t{0});
  };
  const int64_t rows = in_order(q).size(1);
  const int64_t of_ring_rank = ulysses_ ? sum(gather_row_counts(rows, *ulysses_)) : rows;
  AttentionPattern pattern = pattern_;
  pattern.documents = cu_seqlens;
  pattern.sequence_length = sum(gather_row_counts(of_ring_rank, *ring_));
  const SequenceGrid grid = {ulysses_ ? ulysses_->size() : 1, ring_->size(), false};
  const int rank = ring_->rank() * grid.ulysses + (ulysses_ ? ulysses_->rank() : 0);
  const int64_t share = SequenceLayout(grid, {}, 1, pattern.sequence_length).count(rank);
  if (rows != share)
    throw UserError(str("attention over a grid of ulysses ", grid.ulysses, " x ring ", grid.ring,
                        ": this rank holds ", rows, " of ", pattern.sequence_length,
                        " rows, but its share is ", share,
                        "; cut q, k and v with shard() and a SequenceLayout of this grid"));
  return in_order(
      core_(in_order(q), in_order(k), in_order(v), HeadRange::all(q.size(2), k.size(2)), pattern));
}

void refuse_foreign_attention(const std::string& who) {
  throw UserError(
      who +
      " merges partial results by their logsumexp, which a local attention that returns only its output "
      "does not give; use BlockAttention, or DistributedAttention (Ulysses) with your own");
}

}  // namespace ithaca
