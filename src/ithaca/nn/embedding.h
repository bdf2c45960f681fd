#pragma once
#include "ithaca/nn/parameter.h"

namespace ithaca {

// ids [B, S] int64 -> [B, S, C]. Under grad mode the output always requires grad: a graph starts here, also
// where this weight is frozen.
struct Embedding {
  Parameter weight;          // [V, C]
  int64_t padding_idx = -1;  // a token whose row gets no gradient from here (transformers: config.json's
                             // pad_token_id); -1: none
  at::Tensor forward(const at::Tensor& ids);
};

}  // namespace ithaca
