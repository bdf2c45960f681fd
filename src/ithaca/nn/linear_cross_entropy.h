#pragma once
#include "ithaca/nn/parameter.h"

namespace ithaca {

// Sum of token losses of the head `weight` on hidden [..., C] with labels [...] (-100: none), as a 0-dim
// opmath tensor; differentiable in hidden. Under grad mode the gradients are computed here, in forward
// (kernels/linear_cross_entropy.h): the weight's is added to its buffer at once, and backward() must be
// seeded with exactly 1 (checked). Without grad mode only the loss is computed.
at::Tensor linear_cross_entropy_loss(const at::Tensor& hidden, Parameter& weight, const at::Tensor& labels);

}  // namespace ithaca
