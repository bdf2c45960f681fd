// Gradient norm and clipping on local tensors. Where gradients are sharded, the caller sums the squares over
// its group in between.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace ithaca {

// Sum of squares of all elements, accumulated in float64 block by block in a fixed order (same bits for any
// thread count).
double sum_of_squares(const at::Tensor& flat);

// Factor to multiply gradients with so that their norm is at most max_norm: min(1, max_norm / (norm + 1e-6));
// 1 when max_norm is 0.
double clip_factor(double norm, double max_norm);

}  // namespace ithaca
