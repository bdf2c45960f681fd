// Matrix products on the fastest library at hand. ATen gives float32 products on the CPU to MKL, which leaves
// AVX-512 unused on processors that are not Intel's; oneDNN, in the same libtorch, does not (2x on Zen 4 and
// 5). Everything else goes to ATen.
#pragma once
#include <ATen/core/Tensor.h>

namespace ithaca {

// left [..., J] times right [J, M] -> [..., M], storage of its own. Any strides.
at::Tensor matmul(const at::Tensor& left, const at::Tensor& right);
// The same of a left [N, J]; the result may lie in `buffer` [N, M], contiguous, and is then that tensor.
at::Tensor matmul_in(const at::Tensor& buffer, const at::Tensor& left, const at::Tensor& right);

// sum [N, M] += left [N, J] times right [J, M], all of one dtype. Any strides of left and right.
void add_matmul(const at::Tensor& sum, const at::Tensor& left, const at::Tensor& right);

}  // namespace ithaca
