#include "ithaca/comm/rank_order.h"

#include <ATen/ops/maximum.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr int64_t kBlock = 2048;  // elements; the running sum of a block stays in the first-level cache

template <class T>
T larger(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b)) return a + b;
  }
  return a > b ? a : b;
}

template <class T, class Sum>
void reduce_typed(ReduceOp op, const std::vector<const void*>& inputs, const std::vector<void*>& outs,
                  int64_t count) {
  Sum sum[kBlock];
  T result[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const T* first = static_cast<const T*>(inputs[0]) + begin;
    for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<Sum>(first[i]);
    for (std::size_t r = 1; r < inputs.size(); ++r) {
      const T* x = static_cast<const T*>(inputs[r]) + begin;
      if (op == ReduceOp::kSum) {
        for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<Sum>(sum[i] + static_cast<Sum>(x[i]));
      } else {
        for (int64_t i = 0; i < n; ++i) sum[i] = larger(sum[i], static_cast<Sum>(x[i]));
      }
    }
    for (int64_t i = 0; i < n; ++i) result[i] = static_cast<T>(sum[i]);
    for (void* out : outs)
      std::memcpy(static_cast<T*>(out) + begin, result, static_cast<std::size_t>(n) * sizeof(T));
  }
}

}  // namespace

void reduce_in_rank_order(c10::ScalarType dtype, ReduceOp op, const std::vector<const void*>& inputs,
                          const std::vector<void*>& outs, int64_t count) {
  switch (dtype) {
    case c10::ScalarType::Float:
      return reduce_typed<float, float>(op, inputs, outs, count);
    case c10::ScalarType::Double:
      return reduce_typed<double, double>(op, inputs, outs, count);
    case c10::ScalarType::Half:
      return reduce_typed<c10::Half, float>(op, inputs, outs, count);
    case c10::ScalarType::BFloat16:
      return reduce_typed<c10::BFloat16, float>(op, inputs, outs, count);
    case c10::ScalarType::Long:
      return reduce_typed<int64_t, int64_t>(op, inputs, outs, count);
    case c10::ScalarType::Int:
      return reduce_typed<int32_t, int32_t>(op, inputs, outs, count);
    case c10::ScalarType::Byte:
      return reduce_typed<uint8_t, uint8_t>(op, inputs, outs, count);
    case c10::ScalarType::Bool:
      return reduce_typed<uint8_t, uint8_t>(ReduceOp::kMax, inputs, outs, count);
    default:
      throw Error(kInternal, ithaca::str("no sum over ranks for tensors of ", c10::toString(dtype)));
  }
}

at::Tensor reduce_in_rank_order(const std::vector<at::Tensor>& inputs, ReduceOp op) {
  const c10::ScalarType dtype = inputs.at(0).scalar_type();
  const bool narrow = dtype == at::kHalf || dtype == at::kBFloat16;
  const bool take_max = op == ReduceOp::kMax || dtype == at::kBool;
  at::Tensor sum =
      inputs[0].to(narrow ? at::kFloat : dtype, /*non_blocking=*/false, /*copy=*/true).view({-1});
  for (std::size_t r = 1; r < inputs.size(); ++r) {
    const at::Tensor x = inputs[r].view({-1});
    if (take_max) {
      sum = at::maximum(sum, x.to(sum.scalar_type()));
    } else {
      sum.add_(x);
    }
  }
  return sum.to(dtype);
}

}  // namespace ithaca
