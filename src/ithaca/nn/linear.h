// y = x W^T + b. `before` and `after` are the seam for parallel forms (column, row, LoRA): they need no new layer class.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>

#include "ithaca/nn/parameter.h"

namespace ithaca {

struct Linear {
  Parameter weight;               // [out, in]
  std::optional<Parameter> bias;  // [out]
  std::function<at::Tensor(const at::Tensor&)> before, after;  // empty: identity

  // x [..., in] -> [..., out]; differentiable in x; weight and bias gradients go to their Parameter.
  at::Tensor forward(const at::Tensor& x);
};

}  // namespace ithaca
