// Tiles over tokens: one GEMM gives a tile of logits, the rows become gradients in place, two GEMMs spread
// them. Shape letters: N labelled tokens, T tokens of a tile, C hidden, V vocabulary. bf16: the tile of
// logits is rounded to bf16 by its GEMM (as a model that returns bf16 logits does), but the label's logit is
// the float32 dot product; softmax and loss are float32, dlogits are rounded to bf16 once; each tile's share
// of dweight is rounded to bf16 once, then summed in float32.
#include "ithaca/kernels/linear_cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <numeric>

#include "ithaca/kernels/checks.h"
#include "ithaca/kernels/matmul.h"
#include "ithaca/kernels/vector_rows.h"

namespace ithaca {
namespace {

constexpr int64_t kNoLabel = -100;
constexpr int64_t kTileBytes = int64_t{32} << 20, kDweightShare = 8;

void check(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels, int64_t tile_bytes) {
  ITHACA_CHECK(
      hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1) && weight.size(0) > 0,
      "hidden ", hidden.sizes(), ", weight ", weight.sizes(), ", expected [N, C] and [V, C]");
  ITHACA_CHECK(hidden.is_floating_point() && weight.is_contiguous(),
               "hidden must be floats, weight contiguous");
  check_like(weight, hidden, "weight");
  ITHACA_CHECK(labels.dim() == 1 && labels.size(0) == hidden.size(0) && labels.scalar_type() == at::kLong &&
                   labels.device() == hidden.device(),
               "labels ", labels.sizes(), " ", labels.scalar_type(), " for hidden ", hidden.sizes(),
               ", expected int64 on its device");
  ITHACA_CHECK(tile_bytes >= 0, "tile_bytes ", tile_bytes);
  const at::Tensor outside =
      labels.ne(kNoLabel).logical_and(labels.lt(0).logical_or(labels.ge(weight.size(0))));
  if (outside.any().item<bool>())
    throw UserError(ithaca::str(
        "label ", labels.masked_select(outside)[0].item<int64_t>(), " is outside the vocabulary of ",
        weight.size(0),
        " (-100 means no label): the data were tokenised with another tokenizer than the model's"));
}

// Losses of a tile's rows, on the CPU. logits [T, V] become dlogits where `gradient`.
void tile_losses(const at::Tensor& logits, const at::Tensor& hidden, const at::Tensor& weight,
                 const at::Tensor& labels, bool gradient, double* losses) {
  const int64_t v = logits.size(1), c = hidden.size(1);
  const int64_t* label = labels.const_data_ptr<int64_t>();
  with_vector_type(logits.scalar_type(), [&]<class T>() {
    T* row = logits.data_ptr<T>();
    const T *h = hidden.const_data_ptr<T>(), *w = weight.const_data_ptr<T>();
    at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        vec::Acc<T> label_logit;
        if constexpr (std::is_same_v<T, vec::Acc<T>>) {
          label_logit = row[i * v + label[i]];
        } else {
          label_logit = vec::dot(h + i * c, w + label[i] * c, c);
        }
        losses[i] = vec::cross_entropy_row(row + i * v, v, label[i], label_logit, gradient);
      }
    });
  });
}

// The same with ATen's operators, on any device; the sum of the losses.
at::Tensor tile_loss_sum(const at::Tensor& logits, const at::Tensor& labels, bool gradient) {
  const at::Tensor wide = logits.to(opmath_of(logits)), index = labels.unsqueeze(1);
  const at::Tensor lse = at::logsumexp(wide, 1, /*keepdim=*/true);
  at::Tensor loss = (lse - wide.gather(1, index)).sum();
  if (gradient) {
    at::Tensor d = (wide - lse).exp_();
    d.scatter_add_(1, index, at::scalar_tensor(-1, d.options()).expand(index.sizes()));
    logits.copy_(d);
  }
  return loss;
}

// accumulator [V, C] += dlogits^T hidden. The GEMM adds by itself where the dtypes agree.
void add_weight_gradient(const at::Tensor& accumulator, const at::Tensor& dlogits, const at::Tensor& hidden,
                         at::Tensor& scratch) {
  if (accumulator.scalar_type() == dlogits.scalar_type()) {
    add_matmul(accumulator, dlogits.t(), hidden);
    return;
  }
  const int64_t v = accumulator.size(0), c = accumulator.size(1), block = rows_of_a_block(hidden, c);
  if (!scratch.defined()) scratch = at::empty({std::min(v, block), c}, hidden.options());
  for (int64_t begin = 0; begin < v; begin += block) {
    const int64_t rows = std::min(block, v - begin);
    at::Tensor product = scratch.narrow(0, 0, rows);
    const at::Tensor target = accumulator.narrow(0, begin, rows);
    at::mm_out(product, dlogits.narrow(1, begin, rows).t(), hidden);
    if (!has_vector_kernel(product)) {
      target.add_(product);
      continue;
    }
    with_vector_type(product.scalar_type(), [&]<class T>() {
      const T* from = product.const_data_ptr<T>();
      auto* to = target.data_ptr<vec::Acc<T>>();
      at::parallel_for(0, rows, 64, [&](int64_t first, int64_t last) {
        vec::accumulate_row(to + first * c, from + first * c, (last - first) * c);
      });
    });
  }
}

// Every row labelled. dhidden [N, C] is written and dweight added to, each where defined.
at::Tensor run_tiles(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                     const at::Tensor& dhidden, const at::Tensor& dweight, int64_t tile_bytes) {
  const int64_t n = hidden.size(0), v = weight.size(0);
  if (tile_bytes == 0) tile_bytes = logits_tile_bytes(weight, dweight.defined());
  const int64_t most = std::clamp<int64_t>(tile_bytes / (v * hidden.element_size()), 1, n),
                tiles = (n + most - 1) / most;
  const int64_t tile = (n + tiles - 1) / tiles;
  const bool vector = has_vector_kernel(hidden), gradient = dhidden.defined();
  const at::Tensor buffer = at::empty({tile, v}, hidden.options());
  std::vector<double> losses(vector ? n : 0);
  at::Tensor loss = at::zeros({}, hidden.options().dtype(opmath_of(hidden))), scratch;
  for (int64_t begin = 0; begin < n; begin += tile) {
    const int64_t rows = std::min(tile, n - begin);
    const at::Tensor h = hidden.narrow(0, begin, rows), label = labels.narrow(0, begin, rows);
    const at::Tensor logits = matmul_in(buffer.narrow(0, 0, rows), h, weight.t());
    if (vector) {
      tile_losses(logits, h, weight, label, gradient, losses.data() + begin);
    } else {
      loss += tile_loss_sum(logits, label, gradient);
    }
    if (!gradient) continue;
    const at::Tensor dh = dhidden.narrow(0, begin, rows);
    if (const at::Tensor made = matmul_in(dh, logits, weight); !made.is_same(dh)) dh.copy_(made);
    if (dweight.defined()) add_weight_gradient(dweight, logits, h, scratch);
  }
  if (vector) loss.fill_(std::accumulate(losses.begin(), losses.end(), 0.0));
  return loss;
}

}  // namespace

int64_t logits_tile_bytes(const at::Tensor& weight, bool with_dweight) {
  const int64_t element = static_cast<int64_t>(c10::elementSize(opmath_of(weight)));
  return with_dweight ? std::max(kTileBytes, weight.numel() * element / kDweightShare) : kTileBytes;
}

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                                int64_t tile_bytes) {
  check(hidden, weight, labels, tile_bytes);
  const c10::NoGradGuard no_grad;
  const at::Tensor rows = labels.ne(kNoLabel).nonzero().squeeze(1);
  if (rows.numel() == 0) return at::zeros({}, hidden.options().dtype(opmath_of(hidden)));
  if (rows.numel() == labels.numel())
    return run_tiles(hidden.contiguous(), weight, labels.contiguous(), {}, {}, tile_bytes);
  return run_tiles(hidden.index_select(0, rows), weight, labels.index_select(0, rows), {}, {}, tile_bytes);
}

LinearCrossEntropyOutput linear_cross_entropy_with_grad(const at::Tensor& hidden, const at::Tensor& weight,
                                                        const at::Tensor& labels,
                                                        const at::Tensor& dweight_accumulator,
                                                        int64_t tile_bytes) {
  check(hidden, weight, labels, tile_bytes);
  if (dweight_accumulator.defined())
    ITHACA_CHECK(dweight_accumulator.sizes() == weight.sizes() &&
                     dweight_accumulator.scalar_type() == opmath_of(weight) &&
                     dweight_accumulator.is_contiguous() && dweight_accumulator.device() == weight.device(),
                 "dweight_accumulator ", dweight_accumulator.sizes(), " ", dweight_accumulator.scalar_type(),
                 ", expected weight's shape in opmath, contiguous");
  const c10::NoGradGuard no_grad;
  // Rows without a label cost nothing and cannot spoil the sums, whatever they hold.
  const at::Tensor rows = labels.ne(kNoLabel).nonzero().squeeze(1);
  if (rows.numel() == 0)
    return {at::zeros({}, hidden.options().dtype(opmath_of(hidden))),
            at::zeros(hidden.sizes(), hidden.options())};
  if (rows.numel() == labels.numel()) {
    const at::Tensor dhidden = at::empty(hidden.sizes(), hidden.options());
    return {
        run_tiles(hidden.contiguous(), weight, labels.contiguous(), dhidden, dweight_accumulator, tile_bytes),
        dhidden};
  }
  const at::Tensor labelled = hidden.index_select(0, rows), dlabelled = at::empty_like(labelled);
  const at::Tensor loss =
      run_tiles(labelled, weight, labels.index_select(0, rows), dlabelled, dweight_accumulator, tile_bytes);
  return {loss, at::zeros(hidden.sizes(), hidden.options()).index_copy_(0, rows, dlabelled)};
}

}  // namespace ithaca
