#include "ithaca/nn/norm.h"

#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/kernels/rms_norm.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, Parameter* weight, double eps) {
    const at::Tensor input = x.contiguous();
    RmsNormOutput out = rms_norm(input, weight->value, eps);
    ctx->saved_data["weight"] = reinterpret_cast<int64_t>(weight);
    ctx->save_for_backward({input, out.rstd});
    return out.y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto& weight = *reinterpret_cast<Parameter*>(ctx->saved_data["weight"].toInt());
    const variable_list saved = ctx->get_saved_variables();
    const RmsNormGrads out = rms_norm_backward(grads[0].contiguous(), saved[0], weight.value, saved[1]);
    weight.accumulate(out.dweight);
    return {out.dx, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor RmsNorm::forward(const at::Tensor& x) {
  return RmsNormFunction::apply(x, &weight, eps);
}

}  // namespace ithaca
