// A float32 master weight kept as the bf16 weight itself and the 16 bits that the weight lacks: nothing is
// lost, and a rank that holds the weights anyway pays 2 bytes for a master, not 4. Here the bf16 weight is the
// master rounded to nearest, ties away from zero:  bits(master) = bits(weight) * 2^16 + low,  low in
// [-2^15, 2^15).
#pragma once
#include <ATen/core/Tensor.h>

namespace ithaca {

// weight bf16, low int16, master float32: 1-D, contiguous, of one size, on the CPU.
void join_master(const at::Tensor& weight, const at::Tensor& low, const at::Tensor& master);
void split_master(const at::Tensor& master, const at::Tensor& weight, const at::Tensor& low);

}  // namespace ithaca
