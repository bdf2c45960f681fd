// RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467): y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) +
// eps) over the last dim. float32 inside (float64 for float64): bf16 inputs are widened, x * rstd is rounded
// to x's dtype, then multiplied by weight, as transformers' LlamaRMSNorm does. x [..., C] contiguous; weight
// [C] in x's dtype.
#pragma once
#include <ATen/core/Tensor.h>

namespace ithaca {

struct RmsNormOutput {
  at::Tensor y;     // like x
  at::Tensor rstd;  // [N] opmath, N = product of the leading dims
};
struct RmsNormGrads {
  at::Tensor dx;       // like x
  at::Tensor dweight;  // [C] opmath
};
RmsNormOutput rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
RmsNormGrads rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& rstd);

}  // namespace ithaca
