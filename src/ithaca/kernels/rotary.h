// Rotary position embedding, half-split style (Su et al. 2021, arXiv 2104.09864, section 3.4.2; pairs (j, j +
// D/2) as in Llama). x [B, S, H, D], last dim contiguous; cos, sin [B, S, D/2] or [S, D/2] in opmath, any
// scaling factor already in them.
#pragma once
#include <ATen/core/Tensor.h>

namespace ithaca {

// Returns a new contiguous tensor. inverse = true rotates back: that is also the gradient.
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse = false);

}  // namespace ithaca
