// DistributedAttention: any local attention, made sequence-parallel (DeepSpeed-Ulysses, arXiv 2309.14509;
// DeepSpeed's class of the same name).
//
//   auto attention = DistributedAttention(my_attention, groups.sequence_parallel_group());
//   out = attention(q, k, v, mask);    // q, k, v: this rank's rows, all heads
//
// my_attention(q, k, v, extra...) is any callable with its own autograd that returns only its output, for the
// whole sequence and some of the heads. Extra arguments reach it unchanged: they describe the full sequence.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "ithaca/parallel/sequence/ulysses.h"

namespace ithaca {

enum class DimOrder {
  kBatchFirst,     // [B, S, H, D]
  kSequenceFirst,  // [S, B, H, D]
};

// How many rows each rank of the group holds, gathered (8 bytes a rank). Collective.
std::vector<int64_t> gather_row_counts(int64_t rows, Communicator& group);

template <class LocalAttention>
class DistributedAttention {
 public:
  // The group must outlive this object and every graph made through it.
  DistributedAttention(LocalAttention local_attention, Communicator& group,
                       DimOrder order = DimOrder::kBatchFirst)
      : local_attention_(std::move(local_attention)),
        group_(group),
        sequence_first_(order == DimOrder::kSequenceFirst) {}

  // q [B, S, H, D], k and v [B, S, K, D] of this rank's rows (or [S, B, ...]); ranks may hold different
  // numbers of rows, in rank order. H and K need not divide: the local attention gets q [B, T, h, D] and k, v
  // [B, T, k', D] with h divisible by k'. Returns [B, S, H, D], or [B, S, H * D] where the local attention
  // merged its heads; in the input's layout. UserError when the group is larger than H. Collective.
  template <class... Extra>
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        Extra&&... extra) const {
    const std::vector<int64_t> rows = gather_row_counts(q.size(sequence_first_ ? 0 : 1), group_);
    const QueryKeyValue full = ulysses_scatter_heads(q, k, v, group_, rows, sequence_first_);
    const at::Tensor out = local_attention_(full.q, full.k, full.v, std::forward<Extra>(extra)...);
    return ulysses_gather_heads(out, q.size(2), k.size(2), q.size(3), group_, rows, sequence_first_);
  }

 private:
  LocalAttention local_attention_;
  Communicator& group_;
  bool sequence_first_;
};

}  // namespace ithaca
