// DeepSpeed-Ulysses (Jacobs et al. 2023, arXiv 2309.14509, section 3): between two all_to_all calls each rank
// holds the whole sequence for some of the heads. Here for any heads, kv heads and tokens: uneven splits,
// irregular groups, and each rank receives only the kv heads that its query heads use. One fused call in (q,
// k, v) and one out, per layer and direction (sequence_attention.h has it as a decoder's core). Bytes sent:
// config/layout.h (ulysses_traffic). Shape letters: B batch, T rows of the whole sequence, S rows of this rank,
// H query heads, K kv heads, D head size; h, k of this rank.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ithaca/nn/attention.h"
#include "ithaca/parallel/sequence/ulysses_exchange.h"

namespace ithaca {

// The core for a decoder whose rows are split contiguously over `group` (which must outlive it).
// pattern.sequence_length must be set.
AttentionCore ulysses_attention(Communicator& group, AttentionBackend backend);

struct QueryKeyValue {
  at::Tensor q, k, v;
};

// The differentiable halves, for attention that is not ours (distributed_attention.h). Tensors are [B, S,
// ...] or, with sequence_first, [S, B, ...]. In: q [B, S, H, D], k, v [B, S, K, D] -> q [B, T, h, D] and k, v
// [B, T, k', D], where query head i reads kv head floor(i * k' / h): k' = k, or k' = h with K and V expanded
// here when the rank's group is irregular. dK, dV are summed in opmath.
QueryKeyValue ulysses_scatter_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    Communicator& group, const std::vector<int64_t>& rows,
                                    bool sequence_first);
// Out: [B, T, h, D] or [B, T, h * D] -> [B, S, H, D] or [B, S, H * D].
at::Tensor ulysses_gather_heads(const at::Tensor& out, int64_t q_heads, int64_t kv_heads, int64_t head_dim,
                                Communicator& group, const std::vector<int64_t>& rows, bool sequence_first);

}  // namespace ithaca
