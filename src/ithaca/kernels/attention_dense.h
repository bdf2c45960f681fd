// One dense attention call of a backend, normalised: what the backends differ in (layout, lse, causal corner,
// padding) ends here. q [B, Q, H, D]; k, v [B, N, K, D], H a multiple of K, Q and N above 0; causal only with
// Q == N. out [B, Q, H, D] in q's dtype, lse [B, H, Q] opmath, natural logarithm. The backward's lse is
// contiguous; gradients are shaped as q, k, v in any float dtype.
#pragma once
#include "ithaca/kernels/attention_block.h"

namespace ithaca {

struct DenseAttention {
  const char* name;
  AttentionOutput (*forward)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                             double scale);
  AttentionGrads (*backward)(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, bool causal,
                             double scale);
};

DenseAttention aten_cpu_attention();
DenseAttention flash_cuda_attention();
DenseAttention cudnn_cuda_attention();

}  // namespace ithaca
