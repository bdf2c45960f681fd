#include "ithaca/nn/parameter.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "ithaca/base/error.h"

namespace ithaca {

at::ScalarType opmath(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor& Parameter::gradient() {
  ITHACA_CHECK(grad.defined(), name, " has no gradient buffer: call allocate_gradients before a backward");
  return grad;
}

void Parameter::accumulate(const at::Tensor& g) {
  if (!requires_grad) return;
  at::NoGradGuard no_grad;
  gradient().add_(g.view(value.sizes()));
}

at::Tensor allocate_gradients(const ParameterList& parameters) {
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  std::vector<int64_t> starts;
  int64_t total = 0;
  for (const Parameter* parameter : parameters) {
    starts.push_back(total);
    if (!parameter->requires_grad) continue;
    const at::ScalarType own = opmath(parameter->value.scalar_type());
    ITHACA_CHECK(total == 0 || own == dtype, parameter->name,
                 " accumulates in another type than the parameters before it");
    dtype = own;
    device = parameter->value.device();
    const int64_t alignment = 64 / static_cast<int64_t>(c10::elementSize(dtype));
    total += (parameter->value.numel() + alignment - 1) / alignment * alignment;
  }
  // The start of a tensor of its own is aligned to 64 bytes (c10::gAlignment), hence so is every view.
  at::Tensor flat = at::zeros({total}, at::TensorOptions().dtype(dtype).device(device));
  for (size_t i = 0; i < parameters.size(); ++i) {
    Parameter& parameter = *parameters[i];
    parameter.grad = at::Tensor();
    if (!parameter.requires_grad) continue;
    parameter.grad = flat.narrow(0, starts[i], parameter.value.numel()).view(parameter.value.sizes());
  }
  return flat;
}

}  // namespace ithaca
