#include "ithaca/optim/master.h"

#include <ATen/Parallel.h>

#include <bit>
#include <cstdint>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements that are worth a thread

void check(const at::Tensor& weight, const at::Tensor& low, const at::Tensor& master) {
  ITHACA_CHECK(weight.scalar_type() == at::kBFloat16 && low.scalar_type() == at::kShort &&
                   master.scalar_type() == at::kFloat,
               "expected bf16, int16 and float32, not ", weight.scalar_type(), ", ", low.scalar_type(), ", ",
               master.scalar_type());
  for (const at::Tensor* t : {&weight, &low, &master})
    ITHACA_CHECK(t->is_cpu() && t->dim() == 1 && t->is_contiguous() && t->numel() == master.numel(),
                 "a tensor ", t->sizes(), " on ", t->device().str(), " where ", master.sizes(),
                 " on the CPU was expected");
}

}  // namespace

void join_master(const at::Tensor& weight, const at::Tensor& low, const at::Tensor& master) {
  check(weight, low, master);
  const auto* w = weight.const_data_ptr<at::BFloat16>();
  const int16_t* l = low.const_data_ptr<int16_t>();
  auto* m = master.data_ptr<float>();
  at::parallel_for(0, master.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      m[i] = std::bit_cast<float>((uint32_t{w[i].x} << 16) + static_cast<uint32_t>(int32_t{l[i]}));
  });
}

void split_master(const at::Tensor& master, const at::Tensor& weight, const at::Tensor& low) {
  check(weight, low, master);
  const auto* m = master.const_data_ptr<float>();
  auto* w = weight.data_ptr<at::BFloat16>();
  auto* l = low.data_ptr<int16_t>();
  at::parallel_for(0, master.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto bits = std::bit_cast<uint32_t>(m[i]);
      const uint32_t high = (bits + 0x8000u) >> 16;
      w[i].x = static_cast<uint16_t>(high);
      l[i] = static_cast<int16_t>(bits - (high << 16));
    }
  });
}

}  // namespace ithaca
