#include "ithaca/nn/parameter.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// Of the trainable parameters, which must agree.
at::TensorOptions flat_options(const ParameterList& parameters) {
  const Parameter* first = nullptr;
  for (const Parameter* parameter : parameters) {
    if (!parameter->requires_grad) continue;
    if (!first) first = parameter;
    ITHACA_CHECK(parameter->value.scalar_type() == first->value.scalar_type() &&
                     parameter->value.device() == first->value.device(),
                 parameter->name, " is of another type or device than ", first->name);
  }
  return first ? first->value.options() : at::TensorOptions().dtype(at::kFloat);
}

}  // namespace

at::ScalarType opmath(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor& Parameter::gradient() {
  ITHACA_CHECK(grad.defined(), name, " has no gradient buffer: call allocate_gradients before a backward");
  if (grad_unused) {
    grad.zero_();
    grad_unused = false;
  }
  return grad;
}

void Parameter::accumulate(const at::Tensor& g) {
  if (!requires_grad) return;
  at::NoGradGuard no_grad;
  gradient().add_(g.view(value.sizes()));
}

FlatLayout flat_layout(const ParameterList& parameters, int64_t multiple) {
  FlatLayout layout;
  for (const Parameter* parameter : parameters) {
    layout.starts.push_back(layout.total);
    if (!parameter->requires_grad) continue;
    const int64_t alignment = 64 / static_cast<int64_t>(parameter->value.element_size());
    layout.total += (parameter->value.numel() + alignment - 1) / alignment * alignment;
  }
  layout.total = (layout.total + multiple - 1) / multiple * multiple;
  return layout;
}

at::Tensor allocate_gradients(const ParameterList& parameters, int64_t multiple) {
  const FlatLayout layout = flat_layout(parameters, multiple);
  const at::TensorOptions options = flat_options(parameters);
  // The start of a tensor of its own is aligned to 64 bytes (c10::gAlignment), hence so is every view.
  at::Tensor flat = at::zeros({layout.total}, options.dtype(opmath(options.dtype().toScalarType())));
  for (size_t i = 0; i < parameters.size(); ++i) {
    Parameter& parameter = *parameters[i];
    parameter.grad = at::Tensor();
    if (!parameter.requires_grad) continue;
    parameter.grad = flat.narrow(0, layout.starts[i], parameter.value.numel()).view(parameter.value.sizes());
  }
  return flat;
}

at::Tensor flatten_values(const ParameterList& parameters, int64_t multiple) {
  const at::NoGradGuard no_grad;
  const FlatLayout layout = flat_layout(parameters, multiple);
  at::Tensor flat = at::zeros({layout.total}, flat_options(parameters));
  for (size_t i = 0; i < parameters.size(); ++i) {
    Parameter& parameter = *parameters[i];
    if (!parameter.requires_grad) continue;
    at::Tensor place =
        flat.narrow(0, layout.starts[i], parameter.value.numel()).view(parameter.value.sizes());
    place.copy_(parameter.value);
    parameter.value = place;  // the old storage is freed before the next one is copied
  }
  return flat;
}

}  // namespace ithaca
