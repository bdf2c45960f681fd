// Shape letters: N rows, C hidden, V vocabulary, B batch, S rows of the sequence, H heads, D head size.
#include "ithaca/kernels/reference.h"

#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/where.h>

#include "ithaca/kernels/rotary.h"

namespace ithaca::reference {
namespace {

at::Tensor widen(const at::Tensor& t) {
  return t.to(at::toOpMathType(t.scalar_type()));
}

at::Tensor logits_of(const at::Tensor& hidden, const at::Tensor& weight) {
  return at::matmul(widen(hidden), widen(weight).t());
}

// [N] bool and [N] labels that are safe to gather with.
std::pair<at::Tensor, at::Tensor> labelled(const at::Tensor& labels) {
  return {labels.ge(0), labels.clamp_min(0)};
}

}  // namespace

RmsNormOutput rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = widen(x);
  const at::Tensor rstd = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return {(wide * rstd).to(x.scalar_type()) * weight, rstd.reshape({-1})};
}

RmsNormGrads rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& rstd) {
  const int64_t c = x.size(-1);
  const at::Tensor r = rstd.unsqueeze(-1), g = widen(dy).reshape({-1, c});
  const at::Tensor normed = widen(x).reshape({-1, c}) * r;
  const at::Tensor gw = g * widen(weight);
  const at::Tensor dx = r * (gw - normed * (gw * normed).mean(-1, /*keepdim=*/true));
  return {dx.to(x.scalar_type()).reshape(x.sizes()), (g * normed).sum(0)};
}

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor wide = widen(x), a = wide.narrow(-1, 0, half), b = wide.narrow(-1, half, half);
  const at::Tensor c = cos.unsqueeze(-2), s = inverse ? -sin.unsqueeze(-2) : sin.unsqueeze(-2);
  return at::cat({a * c - b * s, b * c + a * s}, -1).to(x.scalar_type());
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return (at::silu(widen(gate)) * widen(up)).to(gate.scalar_type());
}

SwigluGrads swiglu_backward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  const at::Tensor g = widen(gate), d = widen(dy), s = at::sigmoid(g);
  return {(d * widen(up) * s * (1 + g * (1 - s))).to(gate.scalar_type()), (d * g * s).to(up.scalar_type())};
}

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels) {
  const auto [valid, index] = labelled(labels);
  const at::Tensor logits = logits_of(hidden, weight);
  const at::Tensor loss = at::logsumexp(logits, 1) - logits.gather(1, index.unsqueeze(1)).squeeze(1);
  return at::where(valid, loss, at::scalar_tensor(0, loss.options())).sum();
}

LinearCrossEntropyOutput linear_cross_entropy_with_grad(const at::Tensor& hidden, const at::Tensor& weight,
                                                        const at::Tensor& labels,
                                                        const at::Tensor& dweight_accumulator) {
  const auto [valid, index] = labelled(labels);
  const at::Tensor logits = logits_of(hidden, weight);
  at::Tensor dlogits = at::exp(logits - at::logsumexp(logits, 1, /*keepdim=*/true));
  dlogits.scatter_add_(1, index.unsqueeze(1),
                       at::scalar_tensor(-1, logits.options()).expand({logits.size(0), 1}));
  dlogits = at::where(valid.unsqueeze(1), dlogits, at::scalar_tensor(0, logits.options()));
  if (dweight_accumulator.defined()) dweight_accumulator.add_(at::matmul(dlogits.t(), widen(hidden)));
  return {linear_cross_entropy(hidden, weight, labels),
          at::matmul(dlogits, widen(weight)).to(hidden.scalar_type())};
}

}  // namespace ithaca::reference
