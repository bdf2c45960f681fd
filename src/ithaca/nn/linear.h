// y = after(before(x) W^T + b). Nothing sets `before` and `after` so far: they are the seam where forms that are cut by
// columns or rows will talk to other ranks, without a layer class of their own.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>

#include "ithaca/nn/parameter.h"

namespace ithaca {

// x [..., in], weight [out, in], bias [out] or null -> [..., out]; differentiable in x. Gradients of weight
// and bias go to their Parameter, which must outlive the graph.
at::Tensor linear(const at::Tensor& x, Parameter& weight, Parameter* bias = nullptr);

struct Linear {
  Parameter weight;                                            // [out, in]
  std::optional<Parameter> bias;                               // [out]
  std::function<at::Tensor(const at::Tensor&)> before, after;  // empty: identity

  // after(linear(before(x)))
  at::Tensor forward(const at::Tensor& x);
};

}  // namespace ithaca
