// Shape letters: B batch, S rows of the sequence, H heads, D head size.
#include "ithaca/kernels/rotary.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include "ithaca/kernels/checks.h"
#include "ithaca/kernels/reference.h"
#include "ithaca/kernels/vector_rows.h"

namespace ithaca {
namespace {

constexpr int64_t kGrain = 32;  // positions a thread takes at least

void check(const at::Tensor& x, const at::Tensor& table, const char* what) {
  const int64_t b = x.size(0), s = x.size(1), half = x.size(3) / 2;
  ITHACA_CHECK(table.sizes() == at::IntArrayRef({s, half}) || table.sizes() == at::IntArrayRef({b, s, half}),
               what, " ", table.sizes(), " for x ", x.sizes());
  ITHACA_CHECK(table.scalar_type() == opmath_of(x) && table.device() == x.device(), what, " is ",
               table.scalar_type(), " on ", table.device(), ", expected opmath of ", x.scalar_type(), " on ",
               x.device());
}

}  // namespace

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  ITHACA_CHECK(x.dim() == 4 && x.size(3) % 2 == 0 && x.is_floating_point(),
               "x must be [B, S, H, D] floats with an even D, is ", x.sizes());
  ITHACA_CHECK(x.size(3) <= 1 || x.stride(3) == 1, "the last dim of x must be contiguous");
  check(x, cos, "cos");
  check(x, sin, "sin");
  const c10::NoGradGuard no_grad;
  if (!has_vector_kernel(x)) return reference::rotary(x, cos, sin, inverse).contiguous();
  const int64_t s = x.size(1), h = x.size(2), d = x.size(3);
  at::Tensor y = at::empty(x.sizes(), x.options());
  const at::Tensor c = cos.contiguous(), n = sin.contiguous();
  const int64_t batch_step = cos.dim() == 3 ? s * (d / 2) : 0, sin_step = sin.dim() == 3 ? s * (d / 2) : 0;
  with_vector_type(x.scalar_type(), [&]<class T>() {
    const T* in = x.const_data_ptr<T>();
    const auto *cp = c.const_data_ptr<vec::Acc<T>>(), *sp = n.const_data_ptr<vec::Acc<T>>();
    T* out = y.data_ptr<T>();
    at::parallel_for(0, x.size(0) * s, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / s, row = i % s;
        vec::rotary_heads(in + b * x.stride(0) + row * x.stride(1), x.stride(2), out + i * h * d,
                          cp + b * batch_step + row * (d / 2), sp + b * sin_step + row * (d / 2), h, d,
                          inverse);
      }
    });
  });
  return y;
}

}  // namespace ithaca
