#include "ithaca/nn/embedding.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct EmbeddingFunction : torch::autograd::Function<EmbeddingFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& /*anchor*/, const at::Tensor& ids,
                            Embedding* embedding) {
    ctx->saved_data["embedding"] = reinterpret_cast<int64_t>(embedding);
    ctx->save_for_backward({ids});
    const at::Tensor& weight = embedding->weight.value;
    at::Tensor out = at::empty({ids.size(0), ids.size(1), weight.size(1)}, weight.options());
    at::Tensor rows = out.view({-1, weight.size(1)});
    at::index_select_out(rows, weight, 0, ids.reshape({-1}));
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto& embedding = *reinterpret_cast<Embedding*>(ctx->saved_data["embedding"].toInt());
    variable_list nothing(3);
    if (!embedding.weight.requires_grad) return nothing;
    at::Tensor& grad = embedding.weight.gradient();
    const at::Tensor ids = ctx->get_saved_variables()[0].reshape({-1});
    at::Tensor dy = grads[0].reshape({-1, grad.size(1)}).to(grad.scalar_type());
    if (embedding.padding_idx >= 0) dy = dy.masked_fill(ids.eq(embedding.padding_idx).unsqueeze(1), 0);
    grad.index_add_(0, ids, dy);  // on CPU in the order of the rows: deterministic
    return nothing;
  }
};

}  // namespace

at::Tensor Embedding::forward(const at::Tensor& ids) {
  ITHACA_CHECK(ids.dim() == 2 && ids.scalar_type() == at::kLong, "token ids must be [B, S] int64");
  const at::Tensor anchor = at::empty({0}, weight.value.options().dtype(opmath(weight.value.scalar_type())));
  return EmbeddingFunction::apply(anchor.set_requires_grad(true), ids, this);
}

}  // namespace ithaca
