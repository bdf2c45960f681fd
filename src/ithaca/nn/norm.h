#pragma once
#include "ithaca/nn/parameter.h"

namespace ithaca {

// RMSNorm over the last dim (kernels/rms_norm.h).
struct RmsNorm {
  Parameter weight;  // [C]
  double eps = 1e-6;
  at::Tensor forward(const at::Tensor& x);
};

}  // namespace ithaca
