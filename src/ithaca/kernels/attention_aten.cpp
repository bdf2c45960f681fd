#include "ithaca/kernels/attention_aten.h"

#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

at::Tensor heads_first(const at::Tensor& t) {
  return t.transpose(1, 2);
}

// Of the two bands that a kernel without bands is asked for, the one that is not open.
bool is_causal(Band band) {
  return band.right == 0;
}

AttentionOutput aten_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, Band band,
                             double scale) {
  const auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
      heads_first(q), heads_first(k), heads_first(v),
      /*dropout_p=*/0, is_causal(band), /*attn_mask=*/{}, scale);
  return {heads_first(out), lse};
}

AttentionGrads aten_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, Band band,
                             double scale) {
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      heads_first(dout), heads_first(q), heads_first(k), heads_first(v), heads_first(out), lse,
      /*dropout_p=*/0, is_causal(band), /*attn_mask=*/{}, scale);
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

// FlashAttention's own word for causal is the band {-1, 0}.
AttentionOutput flash_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, Band band,
                              double scale) {
  const auto result = at::_flash_attention_forward(
      padded(q), padded(k), padded(v), /*cum_seq_q=*/{}, /*cum_seq_k=*/{}, q.size(1), k.size(1),
      /*dropout_p=*/0, /*is_causal=*/false, /*return_debug_mask=*/false, scale, band.left, band.right);
  return {std::get<0>(result).narrow(-1, 0, q.size(-1)), std::get<1>(result)};
}

// cum_seq_q and cum_seq_k undefined: not packed.
AttentionGrads flash_gradients(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                               const at::Tensor& cum_seq_q, const at::Tensor& cum_seq_k, int64_t max_q,
                               int64_t max_k, Band band, double scale) {
  // The random state is read only with dropout.
  const at::Tensor rng = at::empty({2}, q.options().dtype(at::kUInt64)),
                   unused = at::empty({}, q.options().dtype(at::kUInt64));
  return cut(at::_flash_attention_backward(padded(dout), padded(q), padded(k), padded(v), padded(out), lse,
                                           cum_seq_q, cum_seq_k, max_q, max_k, /*dropout_p=*/0,
                                           /*is_causal=*/false, rng, unused, scale, band.left, band.right),
             q.size(-1));
}

AttentionGrads flash_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, Band band,
                              double scale) {
  return flash_gradients(dout, q, k, v, out, lse, {}, {}, q.size(1), k.size(1), band, scale);
}

at::Tensor cumulative(const std::vector<int>& bounds, const at::Tensor& like) {
  return at::tensor(bounds, at::kInt).to(like.device());
}

AttentionOutput flash_packed_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const PackedBounds& bounds, Band band, double scale) {
  const auto result = at::_flash_attention_forward(padded(q), padded(k), padded(v), cumulative(bounds.q, q),
                                                   cumulative(bounds.k, k), bounds.longest_q,
                                                   bounds.longest_k, /*dropout_p=*/0, /*is_causal=*/false,
                                                   /*return_debug_mask=*/false, scale, band.left, band.right);
  const at::Tensor& lse = std::get<1>(result);  // of other versions of libtorch [documents, H, longest]
  ITHACA_CHECK(lse.sizes() == at::IntArrayRef({q.size(1), q.size(0)}), "FlashAttention's lse is ",
               lse.sizes());
  return {std::get<0>(result).narrow(-1, 0, q.size(-1)), lse};
}

AttentionGrads flash_packed_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                     const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                     const PackedBounds& bounds, Band band, double scale) {
  return flash_gradients(dout, q, k, v, out, lse, cumulative(bounds.q, q), cumulative(bounds.k, k),
                         bounds.longest_q, bounds.longest_k, band, scale);
}

// cuDNN's lse is [B, H, Q, 1].
AttentionOutput cudnn_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, Band band,
                              double scale) {
  const auto result = at::_scaled_dot_product_cudnn_attention(
      heads_first(padded(q)), heads_first(padded(k)), heads_first(padded(v)), /*attn_bias=*/{},
      /*compute_log_sumexp=*/true, /*dropout_p=*/0, is_causal(band), /*return_debug_mask=*/false, scale);
  return {heads_first(std::get<0>(result)).narrow(-1, 0, q.size(-1)),
          std::get<1>(result).reshape({q.size(0), q.size(2), q.size(1)})};
}

AttentionGrads cudnn_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, Band band,
                              double scale) {
  const at::Tensor philox = at::empty({}, q.options().dtype(at::kLong));
  const auto [dq, dk, dv] = at::_scaled_dot_product_cudnn_attention_backward(
      heads_first(padded(dout)), heads_first(padded(q)), heads_first(padded(k)), heads_first(padded(v)),
      heads_first(padded(out)), lse.unsqueeze(-1), philox, philox, /*attn_bias=*/at::Tensor(), at::Tensor(),
      at::Tensor(), q.size(1), k.size(1), /*dropout_p=*/0, is_causal(band), scale);
  return cut({heads_first(dq), heads_first(dk), heads_first(dv)}, q.size(-1));
}

}  // namespace

DenseAttention aten_cpu_attention() {
  return {"aten", false, aten_forward, aten_backward};
}
DenseAttention flash_cuda_attention() {
  return {"flash", true, flash_forward, flash_backward, flash_packed_forward, flash_packed_backward};
}
DenseAttention cudnn_cuda_attention() {
  return {"cudnn", false, cudnn_forward, cudnn_backward};
}

}  // namespace ithaca
