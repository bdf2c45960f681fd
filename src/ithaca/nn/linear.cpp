// N rows (product of the leading dims).
#include "ithaca/nn/linear.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/base/error.h"
#include "ithaca/kernels/matmul.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor rows_of(const at::Tensor& x) {
  return x.reshape({-1, x.size(-1)});
}

// grad += dy^T x. float32 and float64 GEMMs add in place; ATen has no bf16 GEMM with a float32 result on CPU,
// so a bf16 product is rounded once before it is added.
void accumulate_weight(Parameter& weight, const at::Tensor& dy, const at::Tensor& x) {
  if (!weight.requires_grad) return;
  if (x.scalar_type() == weight.gradient().scalar_type()) {
    add_matmul(weight.gradient(), dy.t(), x);
  } else {
    weight.accumulate(at::mm(dy.t(), x));
  }
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, Parameter* weight, Parameter* bias) {
    ctx->saved_data["weight"] = reinterpret_cast<int64_t>(weight);
    ctx->saved_data["bias"] = reinterpret_cast<int64_t>(bias);
    // A frozen weight needs no x in backward: its memory goes back at once.
    ctx->save_for_backward({weight->requires_grad ? x : at::Tensor()});
    at::Tensor y = matmul(x, weight->value.t());
    if (bias != nullptr) y.add_(bias->value);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto& weight = *reinterpret_cast<Parameter*>(ctx->saved_data["weight"].toInt());
    auto* bias = reinterpret_cast<Parameter*>(ctx->saved_data["bias"].toInt());
    const at::Tensor dy = rows_of(grads[0]);
    if (bias != nullptr && bias->requires_grad)
      bias->accumulate(at::sum(dy, {0}, false, bias->gradient().scalar_type()));
    const at::Tensor x = ctx->get_saved_variables()[0];
    if (x.defined()) accumulate_weight(weight, dy, rows_of(x));
    return {matmul(grads[0], weight.value), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, Parameter& weight, Parameter* bias) {
  ITHACA_CHECK(x.size(-1) == weight.value.size(1), weight.name, " ", weight.value.sizes(),
               " does not take rows of ", x.size(-1));
  return LinearFunction::apply(x, &weight, bias);
}

at::Tensor Linear::forward(const at::Tensor& x) {
  const at::Tensor y = linear(before ? before(x) : x, weight, bias ? &*bias : nullptr);
  return after ? after(y) : y;
}

}  // namespace ithaca
