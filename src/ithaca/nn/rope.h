// cos and sin tables of rotary embedding for given positions (transformers' modeling_rope_utils: default,
// linear, dynamic NTK, llama3, yarn).
#pragma once
#include <ATen/core/Tensor.h>

#include "ithaca/config/model_config.h"

namespace ithaca {

struct RopeTables {
  at::Tensor cos, sin;  // [B, S, D/2] opmath; yarn's attention factor is in them
};

// position_ids [B, S] int64. `sequence_length` is the global length (dynamic scaling depends on it: the
// largest position + 1 of the whole row). Frequencies are computed in float32 as transformers does, for every
// dtype; `dtype` is that of the result (float32 or float64). So are angles, but where a length above 2^24 = 16,777,216 is
// beyond float32's whole numbers, they are float64 for all positions of the call: cos and sin are then right to the
// result's rounding for positions up to 2^30 and more.
RopeTables rope_tables(const RopeConfig& config, int64_t head_dim, const at::Tensor& position_ids,
                       int64_t sequence_length, at::ScalarType dtype);

// q and k rotated, differentiable.
at::Tensor apply_rotary(const at::Tensor& x, const RopeTables& tables);

}  // namespace ithaca
