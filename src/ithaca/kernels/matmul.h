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

// sum [N, M] += left [N, J] times right [J, M], all of one dtype. Any strides of left and right. Where the product cannot
// be added to the sum as it is made, it is made in blocks of rows_of_a_block rows.
void add_matmul(const at::Tensor& sum, const at::Tensor& left, const at::Tensor& right);
// Rows of a product of `columns` columns and like's dtype that stay in a cache until they are added: about 8 MB.
int64_t rows_of_a_block(const at::Tensor& like, int64_t columns);

}  // namespace ithaca
