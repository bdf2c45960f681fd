// Attention by a kernel that knows only runs of rows without gaps: a loop over documents, head groups and pairs
// of runs around it, whose partial results are merged by their logsumexp, so that any such kernel serves every
// q_rows, k_rows and HeadRange. Shape letters: B batch, Q queries, N keys, H query heads, K kv heads, D head
// size.
#pragma once
#include "ithaca/kernels/attention_block.h"
#include "ithaca/kernels/attention_plan.h"

namespace ithaca {

struct DenseAttention {
  const char* name;
  // Takes any Band; else only the open one and, with Q == N, the causal {-1, 0}.
  bool bands;
  // q [B, Q, H, D]; k, v [B, N, K, D], H a multiple of K, Q and N above 0; every query has a key. out is shaped
  // as q and of its dtype, lse [B, H, Q] opmath, natural logarithm. The backward's lse is contiguous; gradients
  // are shaped as q, k, v in any float dtype.
  AttentionOutput (*forward)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, Band band,
                             double scale);
  AttentionGrads (*backward)(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, Band band,
                             double scale);
  // The same for several documents in one call, null where a kernel has no such: q, out, dout and dq
  // [sum of Q, H, D], k and v [sum of N, K, D], lse [H, sum of Q].
  AttentionOutput (*packed_forward)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const PackedBounds& bounds, Band band, double scale) = nullptr;
  AttentionGrads (*packed_backward)(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                    const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                    const PackedBounds& bounds, Band band, double scale) = nullptr;
};

// As the functions of attention_block.h; `total` as of attention_block_add and attention_block_backward_add.
// The pattern has no ALiBi and no sparse blocks, and a window only where the kernel takes bands.
AttentionOutput dense_forward(const DenseAttention& kernel, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const Rows& q_rows, const Rows& k_rows,
                              const HeadRange& heads, const AttentionPattern& pattern);
void dense_forward_add(const DenseAttention& kernel, AttentionOutput& total, const at::Tensor& q,
                       const at::Tensor& k, const at::Tensor& v, const Rows& q_rows, const Rows& k_rows,
                       const HeadRange& heads, const AttentionPattern& pattern);
void dense_backward_add(const DenseAttention& kernel, AttentionGrads& total, const at::Tensor& dout,
                        const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                        const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                        const AttentionPattern& pattern);

// Adds a block's results to those of the blocks before: total.out and lse are opmath, part's out may be narrower.
void merge(const AttentionOutput& total, const AttentionOutput& part);

}  // namespace ithaca
