// The language-model head and its loss in one pass over tiles of tokens, so that no [N, V] logits are ever
// held. hidden [N, C], weight [V, C], labels [N] int64 with -100 for "no label"; loss = sum over labelled
// rows of logsumexp(logits) - logits[label], in opmath. Gradients are those of that sum; the caller divides
// by its count of labels at the end (contract "Loss and gradients"). UserError for a label outside the
// vocabulary. Rows without a label are skipped: what they hold cannot spoil the sums. Tiles are sized so that
// one tile of logits stays below `tile_bytes`.
#pragma once
#include <ATen/core/Tensor.h>

namespace ithaca {

inline constexpr int64_t kLogitsTileBytes = int64_t{32} << 20;

// Forward only. Returns a 0-dim opmath tensor.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                                int64_t tile_bytes = kLogitsTileBytes);

struct LinearCrossEntropyOutput {
  at::Tensor loss;     // 0-dim, opmath
  at::Tensor dhidden;  // [N, C], hidden's dtype
};
// Loss and gradients together (one GEMM less than a backward that must recompute the logits).
// dweight_accumulator [V, C] opmath is added to; undefined: the weight's gradient is not computed.
LinearCrossEntropyOutput linear_cross_entropy_with_grad(const at::Tensor& hidden, const at::Tensor& weight,
                                                        const at::Tensor& labels,
                                                        const at::Tensor& dweight_accumulator,
                                                        int64_t tile_bytes = kLogitsTileBytes);

}  // namespace ithaca
