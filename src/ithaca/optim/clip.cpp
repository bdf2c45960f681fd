#include "ithaca/optim/clip.h"

#include <ATen/Parallel.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr int64_t kBlock = 1 << 16;  // elements

// Eight sums side by side, so that additions do not wait for one another.
template <class T>
double block_sum(const T* x, int64_t n) {
  std::array<double, 8> sums{};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int64_t j = 0; j < 8; ++j) sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  for (; i < n; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

template <class T>
double sum_in_blocks(const T* x, int64_t n) {
  std::vector<double> sums((n + kBlock - 1) / kBlock);
  at::parallel_for(0, static_cast<int64_t>(sums.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      sums[b] = block_sum(x + b * kBlock, std::min(kBlock, n - b * kBlock));
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

double sum_of_squares(const at::Tensor& flat) {
  const c10::NoGradGuard no_grad;
  if (flat.is_cpu() && flat.is_contiguous()) {
    if (flat.scalar_type() == at::kFloat) return sum_in_blocks(flat.const_data_ptr<float>(), flat.numel());
    if (flat.scalar_type() == at::kDouble) return sum_in_blocks(flat.const_data_ptr<double>(), flat.numel());
  }
  const double norm =
      at::linalg_vector_norm(flat.reshape({-1}), 2, std::nullopt, false, at::kDouble).item<double>();
  return norm * norm;
}

double clip_factor(double norm, double max_norm) {
  ITHACA_CHECK(max_norm >= 0, "max_norm is ", max_norm);
  if (max_norm == 0) return 1.0;
  const double factor = max_norm / (norm + 1e-6);
  return factor > 1 ? 1.0 : factor;  // a NaN norm stays visible
}

}  // namespace ithaca
