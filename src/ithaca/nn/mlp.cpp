#include "ithaca/nn/mlp.h"

#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/kernels/swiglu.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Keeps gate and up only; silu(gate) is computed again in backward.
struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up) {
    const at::Tensor g = gate.contiguous(), u = up.contiguous();
    ctx->save_for_backward({g, u});
    return swiglu(g, u);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const SwigluGrads out = swiglu_backward(grads[0].contiguous(), saved[0], saved[1]);
    return {out.dgate, out.dup};
  }
};

}  // namespace

at::Tensor GatedMlp::forward(const at::Tensor& x) {
  const at::Tensor gate = gate_proj.forward(x);
  return down_proj.forward(SwigluFunction::apply(gate, up_proj.forward(x)));
}

}  // namespace ithaca
