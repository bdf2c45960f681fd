#include "ithaca/nn/linear_cross_entropy.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/base/error.h"
#include "ithaca/kernels/linear_cross_entropy.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor rows_of(const at::Tensor& hidden) {
  return hidden.reshape({-1, hidden.size(-1)});
}

struct LinearCrossEntropyFunction : torch::autograd::Function<LinearCrossEntropyFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden, Parameter* weight,
                            const at::Tensor& labels) {
    const at::Tensor dweight = weight->requires_grad ? weight->gradient() : at::Tensor();
    const LinearCrossEntropyOutput out =
        linear_cross_entropy_with_grad(rows_of(hidden), weight->value, labels.reshape({-1}), dweight);
    ctx->save_for_backward({out.dhidden});
    ctx->saved_data["shape"] = hidden.sizes().vec();
    return out.loss;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    // The weight's gradient was added for a seed of 1 already: any other would make the two disagree.
    const double seed = grads[0].item<double>();
    ITHACA_CHECK(seed == 1.0, "the loss must be differentiated with a seed of exactly 1, not ", seed);
    const at::Tensor dhidden = ctx->get_saved_variables()[0];
    return {dhidden.view(ctx->saved_data["shape"].toIntVector()), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear_cross_entropy_loss(const at::Tensor& hidden, Parameter& weight, const at::Tensor& labels) {
  ITHACA_CHECK(labels.sizes() == hidden.sizes().slice(0, hidden.dim() - 1), "labels ", labels.sizes(),
               " do not belong to hidden rows ", hidden.sizes());
  if (!at::GradMode::is_enabled())
    return linear_cross_entropy(rows_of(hidden), weight.value, labels.reshape({-1}));
  return LinearCrossEntropyFunction::apply(hidden, &weight, labels);
}

}  // namespace ithaca
