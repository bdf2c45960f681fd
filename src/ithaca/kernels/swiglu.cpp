#include "ithaca/kernels/swiglu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>

#include "ithaca/kernels/checks.h"
#include "ithaca/kernels/reference.h"
#include "ithaca/kernels/vector_rows.h"

namespace ithaca {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements a thread takes at least

void check(const at::Tensor& t, const at::Tensor& gate, const char* what) {
  ITHACA_CHECK(t.sizes() == gate.sizes() && t.is_contiguous() && t.is_floating_point(), what, " ", t.sizes(),
               " for gate ", gate.sizes(), ", both contiguous floats");
  check_like(t, gate, what);
}

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  check(gate, gate, "gate");
  check(up, gate, "up");
  const c10::NoGradGuard no_grad;
  if (!has_vector_kernel(gate)) return reference::swiglu(gate, up);
  at::Tensor y = at::empty_like(gate);
  with_vector_type(gate.scalar_type(), [&]<class T>() {
    const T *g = gate.const_data_ptr<T>(), *u = up.const_data_ptr<T>();
    T* out = y.data_ptr<T>();
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      vec::swiglu_row(g + begin, u + begin, out + begin, end - begin);
    });
  });
  return y;
}

SwigluGrads swiglu_backward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  check(gate, gate, "gate");
  check(up, gate, "up");
  check(dy, gate, "dy");
  const c10::NoGradGuard no_grad;
  if (!has_vector_kernel(gate)) return reference::swiglu_backward(dy, gate, up);
  SwigluGrads grads{at::empty_like(gate), at::empty_like(gate)};
  with_vector_type(gate.scalar_type(), [&]<class T>() {
    const T *d = dy.const_data_ptr<T>(), *g = gate.const_data_ptr<T>(), *u = up.const_data_ptr<T>();
    T *dg = grads.dgate.data_ptr<T>(), *du = grads.dup.data_ptr<T>();
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      vec::swiglu_backward_row(d + begin, g + begin, u + begin, dg + begin, du + begin, end - begin);
    });
  });
  return grads;
}

}  // namespace ithaca
