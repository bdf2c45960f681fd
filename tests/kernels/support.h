// What the kernel tests share: seeded inputs and the two measures of closeness.
#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

namespace ithaca::test {

// Standard normal values, drawn in float64 and rounded to `dtype`.
at::Tensor random(at::IntArrayRef sizes, uint64_t seed, at::ScalarType dtype = at::kDouble);

// max|a - b| / max(1, max|b|); infinity where the shapes differ or one is NaN where the other is not. Equal
// infinities count as equal.
double distance(const at::Tensor& a, const at::Tensor& b);

// rms(a - b) / rms(b) in float64.
double relative_rms(const at::Tensor& a, const at::Tensor& b);

// Same dtype, shape and bits.
bool same_bits(const at::Tensor& a, const at::Tensor& b);

// The gradient of the scalar function f at x (float64), by central differences.
template <class F>
at::Tensor numerical_gradient(const at::Tensor& x, F f) {
  const double h = 1e-6;
  at::Tensor at_x = x.clone(), grad = x.clone();
  double* p = at_x.data_ptr<double>();
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double kept = p[i];
    p[i] = kept + h;
    const double above = f(at_x);
    p[i] = kept - h;
    const double below = f(at_x);
    p[i] = kept;
    grad.data_ptr<double>()[i] = (above - below) / (2 * h);
  }
  return grad;
}

}  // namespace ithaca::test
