// The language-model head and its loss in one pass over tiles of tokens, so that no [N, V] logits are ever
// held. hidden [N, C], weight [V, C], labels [N] int64 with -100 for "no label"; loss = sum over labelled
// rows of logsumexp(logits) - logits[label], in opmath. Gradients are those of that sum; the caller divides
// by its count of labels at the end (contract "Loss and gradients"). UserError for a label outside the
// vocabulary. Rows without a label are skipped: what they hold cannot spoil the sums.
//
// Memory: one tile of logits, at most `tile_bytes` (and at least one row). Traffic: every tile reads weight twice, and reads
// and writes dweight once, besides which it holds a block of 8 MB. Tiles of 32 MB alone would be 128 rows of bf16 at V
// 131,072: at C 4,096 and 8,192 tokens, 64 times 4.3 GB of dweight, 275 GB a step. So a tile may have an eighth of
// dweight's own bytes where that is more: then it has C / 4 rows (C / 8 of float32), and dweight's traffic is
// 16 N V element bytes whatever C is: 34 GB there.
#pragma once
#include <ATen/core/Tensor.h>

namespace ithaca {

// The larger of 32 MB and an eighth of dweight [V, C] in opmath; without a dweight 32 MB.
int64_t logits_tile_bytes(const at::Tensor& weight, bool with_dweight);

// Forward only. Returns a 0-dim opmath tensor. tile_bytes 0: logits_tile_bytes.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                                int64_t tile_bytes = 0);

struct LinearCrossEntropyOutput {
  at::Tensor loss;     // 0-dim, opmath
  at::Tensor dhidden;  // [N, C], hidden's dtype
};
// Loss and gradients together (one GEMM less than a backward that must recompute the logits).
// dweight_accumulator [V, C] opmath is added to; undefined: the weight's gradient is not computed.
LinearCrossEntropyOutput linear_cross_entropy_with_grad(const at::Tensor& hidden, const at::Tensor& weight,
                                                        const at::Tensor& labels,
                                                        const at::Tensor& dweight_accumulator,
                                                        int64_t tile_bytes = 0);

}  // namespace ithaca
