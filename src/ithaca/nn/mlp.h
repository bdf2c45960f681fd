#pragma once
#include "ithaca/nn/linear.h"

namespace ithaca {

// down(silu(gate(x)) * up(x))
struct GatedMlp {
  Linear gate_proj, up_proj, down_proj;
  at::Tensor forward(const at::Tensor& x);
};

}  // namespace ithaca
