#include "tests/kernels/support.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>
#include <random>

namespace ithaca::test {

at::Tensor random(at::IntArrayRef sizes, uint64_t seed, at::ScalarType dtype) {
  at::Tensor t = at::empty(sizes, at::kDouble);
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<double>()[i] = normal(engine);
  return t.to(dtype);
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  if (a.numel() == 0) return 0;
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  const at::Tensor gap = at::where(x == y, at::zeros_like(x), (x - y).abs());
  if (gap.isnan().any().item<bool>()) return std::numeric_limits<double>::infinity();
  const at::Tensor finite = at::where(y.isfinite(), y.abs(), at::zeros_like(y));
  return gap.max().item<double>() / std::max(1.0, finite.max().item<double>());
}

double relative_rms(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return std::sqrt(((x - y).square().sum() / y.square().sum()).item<double>());
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && at::equal(a, b);
}

}  // namespace ithaca::test
