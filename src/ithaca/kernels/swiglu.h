// SwiGLU (Shazeer 2020, arXiv 2002.05202): y = silu(gate) * up, silu(x) = x / (1 + exp(-x)). Any equal
// shapes, contiguous. opmath inside; silu(gate) is not rounded before the product.
#pragma once
#include <ATen/core/Tensor.h>

namespace ithaca {

struct SwigluGrads {
  at::Tensor dgate, dup;
};
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
SwigluGrads swiglu_backward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up);

}  // namespace ithaca
