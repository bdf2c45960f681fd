// Sums (and maxima) over ranks in rank order: element i of the result is ((x0[i] + x1[i]) + x2[i]) + ...,
// whoever computes it and however the range is cut, so every CPU backend gives the same bits. float16 and
// bfloat16 are summed in float32 and rounded once. bool: both operations are "or". NaN wins a maximum.
#pragma once
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <vector>

#include "ithaca/comm/communicator.h"

namespace ithaca {

// CPU memory. inputs[r] and every outs[k] hold `count` elements of `dtype`; each of outs gets the result. An
// out may be one of the inputs. Error (internal) for a dtype without sums.
void reduce_in_rank_order(c10::ScalarType dtype, ReduceOp op, const std::vector<const void*>& inputs,
                          const std::vector<void*>& outs, int64_t count);

// Any device, by ATen operators on the current stream: the same result in a new 1-D tensor.
at::Tensor reduce_in_rank_order(const std::vector<at::Tensor>& inputs, ReduceOp op);

}  // namespace ithaca
