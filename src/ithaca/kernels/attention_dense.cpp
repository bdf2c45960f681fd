#include "ithaca/kernels/attention_dense.h"

#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>

namespace ithaca {
namespace {

at::Tensor heads_first(const at::Tensor& t) {
  return t.transpose(1, 2);
}

AttentionOutput aten_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                             double scale) {
  const auto [out, lse] =
      at::_scaled_dot_product_flash_attention_for_cpu(heads_first(q), heads_first(k), heads_first(v),
                                                      /*dropout_p=*/0, causal, /*attn_mask=*/{}, scale);
  return {heads_first(out), lse};
}

AttentionGrads aten_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, bool causal,
                             double scale) {
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      heads_first(dout), heads_first(q), heads_first(k), heads_first(v), heads_first(out), lse,
      /*dropout_p=*/0, causal, /*attn_mask=*/{}, scale);
  return {heads_first(dq), heads_first(dk), heads_first(dv)};
}

// Head sizes that are no multiple of 8 get zero columns: they add nothing to the scores and are cut off
// again.
at::Tensor padded(const at::Tensor& t) {
  const int64_t missing = (8 - t.size(-1) % 8) % 8;
  return missing == 0 ? t : at::constant_pad_nd(t, {0, missing}, 0);
}

AttentionGrads cut(const std::tuple<at::Tensor, at::Tensor, at::Tensor>& grads, int64_t head_dim) {
  return {std::get<0>(grads).narrow(-1, 0, head_dim), std::get<1>(grads).narrow(-1, 0, head_dim),
          std::get<2>(grads).narrow(-1, 0, head_dim)};
}

// FlashAttention's causal corner is at the bottom right: the same as ours, since a causal call is square.
AttentionOutput flash_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                              double scale) {
  const auto result = at::_flash_attention_forward(
      padded(q), padded(k), padded(v), /*cum_seq_q=*/{}, /*cum_seq_k=*/{}, q.size(1), k.size(1),
      /*dropout_p=*/0, causal, /*return_debug_mask=*/false, scale);
  return {std::get<0>(result).narrow(-1, 0, q.size(-1)), std::get<1>(result)};
}

AttentionGrads flash_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, bool causal,
                              double scale) {
  // The random state is read only with dropout.
  const at::Tensor rng = at::empty({2}, q.options().dtype(at::kUInt64)),
                   unused = at::empty({}, q.options().dtype(at::kUInt64));
  return cut(at::_flash_attention_backward(padded(dout), padded(q), padded(k), padded(v), padded(out), lse,
                                           at::Tensor(), at::Tensor(), q.size(1), k.size(1), /*dropout_p=*/0,
                                           causal, rng, unused, scale),
             q.size(-1));
}

// cuDNN's lse is [B, H, Q, 1].
AttentionOutput cudnn_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                              double scale) {
  const auto result = at::_scaled_dot_product_cudnn_attention(
      heads_first(padded(q)), heads_first(padded(k)), heads_first(padded(v)), /*attn_bias=*/{},
      /*compute_log_sumexp=*/true, /*dropout_p=*/0, causal, /*return_debug_mask=*/false, scale);
  return {heads_first(std::get<0>(result)).narrow(-1, 0, q.size(-1)),
          std::get<1>(result).reshape({q.size(0), q.size(2), q.size(1)})};
}

AttentionGrads cudnn_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, bool causal,
                              double scale) {
  const at::Tensor philox = at::empty({}, q.options().dtype(at::kLong));
  const auto [dq, dk, dv] = at::_scaled_dot_product_cudnn_attention_backward(
      heads_first(padded(dout)), heads_first(padded(q)), heads_first(padded(k)), heads_first(padded(v)),
      heads_first(padded(out)), lse.unsqueeze(-1), philox, philox, /*attn_bias=*/at::Tensor(), at::Tensor(),
      at::Tensor(), q.size(1), k.size(1), /*dropout_p=*/0, causal, scale);
  return cut({heads_first(dq), heads_first(dk), heads_first(dv)}, q.size(-1));
}

}  // namespace

DenseAttention aten_cpu_attention() {
  return {"aten", aten_forward, aten_backward};
}
DenseAttention flash_cuda_attention() {
  return {"flash", flash_forward, flash_backward};
}
DenseAttention cudnn_cuda_attention() {
  return {"cudnn", cudnn_forward, cudnn_backward};
}

}  // namespace ithaca
