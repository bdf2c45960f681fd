// Shape letters: N rows, C hidden.
#include "ithaca/kernels/rms_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "ithaca/kernels/checks.h"
#include "ithaca/kernels/reference.h"
#include "ithaca/kernels/vector_rows.h"

namespace ithaca {
namespace {

constexpr int64_t kGrain = 16;  // rows a thread takes at least

void check(const at::Tensor& x, const at::Tensor& weight) {
  ITHACA_CHECK(x.dim() >= 1 && x.is_floating_point() && x.is_contiguous(),
               "x must be contiguous [..., C] floats, is ", x.sizes());
  ITHACA_CHECK(weight.dim() == 1 && weight.size(0) == x.size(-1) && weight.is_contiguous(), "weight ",
               weight.sizes(), " for x ", x.sizes());
  check_like(weight, x, "weight");
}

int64_t rows_of(const at::Tensor& x) {
  return x.numel() == 0 ? 0 : x.numel() / x.size(-1);
}

}  // namespace

RmsNormOutput rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check(x, weight);
  const c10::NoGradGuard no_grad;
  const int64_t rows = rows_of(x), c = x.size(-1);
  if (rows == 0 || !has_vector_kernel(x)) return reference::rms_norm(x, weight, eps);
  RmsNormOutput result{at::empty_like(x), at::empty({rows}, x.options().dtype(opmath_of(x)))};
  with_vector_type(x.scalar_type(), [&]<class T>() {
    const T *in = x.const_data_ptr<T>(), *w = weight.const_data_ptr<T>();
    T* y = result.y.data_ptr<T>();
    auto* rstd = result.rstd.data_ptr<vec::Acc<T>>();
    at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
      vec::rms_norm_rows(in + begin * c, w, y + begin * c, rstd + begin, end - begin, c, eps);
    });
  });
  return result;
}

RmsNormGrads rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& rstd) {
  check(x, weight);
  const c10::NoGradGuard no_grad;
  const int64_t rows = rows_of(x), c = x.size(-1);
  ITHACA_CHECK(dy.sizes() == x.sizes() && dy.is_contiguous(), "dy ", dy.sizes(), " for x ", x.sizes(),
               ", contiguous");
  check_like(dy, x, "dy");
  ITHACA_CHECK(rstd.dim() == 1 && (rows == 0 || rstd.size(0) == rows) && rstd.scalar_type() == opmath_of(x) &&
                   rstd.is_contiguous(),
               "rstd ", rstd.sizes(), " ", rstd.scalar_type(), ", expected [", rows, "] in opmath");
  if (rows == 0 || !has_vector_kernel(x)) return reference::rms_norm_backward(dy, x, weight, rstd);
  // dweight is summed in blocks of rows that do not depend on the number of threads, then block after block:
  // the same bits for any of them.
  const int64_t block = std::max<int64_t>(64, (rows + 63) / 64), blocks = (rows + block - 1) / block;
  const auto acc = x.options().dtype(opmath_of(x));
  RmsNormGrads grads{at::empty_like(x), at::zeros({c}, acc)};
  const at::Tensor partial = at::zeros({blocks, c}, acc);
  with_vector_type(x.scalar_type(), [&]<class T>() {
    using A = vec::Acc<T>;
    const T *g = dy.const_data_ptr<T>(), *in = x.const_data_ptr<T>(), *w = weight.const_data_ptr<T>();
    const A* scale = rstd.const_data_ptr<A>();
    T* dx = grads.dx.data_ptr<T>();
    A *sums = partial.data_ptr<A>(), *dweight = grads.dweight.data_ptr<A>();
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t row = b * block, count = std::min(block, rows - row);
        vec::rms_norm_backward_rows(g + row * c, in + row * c, w, scale + row, dx + row * c, sums + b * c,
                                    count, c);
      }
    });
    for (int64_t b = 0; b < blocks; ++b) vec::accumulate_row(dweight, sums + b * c, c);
  });
  return grads;
}

}  // namespace ithaca
