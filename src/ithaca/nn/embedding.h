#pragma once
#include "ithaca/nn/parameter.h"

namespace ithaca {

// ids [B, S] int64 -> [B, S, C]. The output requires grad whenever the weight does, so that a graph starts here.
struct Embedding {
  Parameter weight;  // [V, C]
  at::Tensor forward(const at::Tensor& ids);
};

}  // namespace ithaca
