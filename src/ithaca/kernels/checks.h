// What the operators of this room have in common before they choose a kernel.
#pragma once
#include <ATen/OpMathType.h>
#include <ATen/core/Tensor.h>

#include "ithaca/base/error.h"
#include "ithaca/kernels/cpu_choice.h"

namespace ithaca {

// The dtypes and device of the vectorised kernels (*_cpu.h); everything else runs the naive twin.
inline bool has_vector_kernel(const at::Tensor& t) {
  if (!t.is_cpu()) return false;
  cpu_choice();  // made before Highway's first
  return (t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble ||
          t.scalar_type() == at::kBFloat16);
}

// Calls f.operator()<T>() with the C++ type of a dtype that has a vector kernel.
template <class F>
void with_vector_type(at::ScalarType dtype, F f) {
  if (dtype == at::kFloat) return f.template operator()<float>();
  if (dtype == at::kDouble) return f.template operator()<double>();
  ITHACA_CHECK(dtype == at::kBFloat16, "no vector kernel for ", dtype);
  f.template operator()<c10::BFloat16>();
}

inline at::ScalarType opmath_of(const at::Tensor& t) {
  return at::toOpMathType(t.scalar_type());
}

inline void check_like(const at::Tensor& t, const at::Tensor& like, const char* what) {
  ITHACA_CHECK(t.scalar_type() == like.scalar_type() && t.device() == like.device(), what, " is ",
               t.scalar_type(), " on ", t.device(), ", expected ", like.scalar_type(), " on ", like.device());
}

}  // namespace ithaca
