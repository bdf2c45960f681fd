// Shape letters: B batch, S rows of the sequence, H query heads, K kv heads, D head size; q, k: rows of one
// document.
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

#include "ithaca/kernels/attention_plan.h"
#include "ithaca/kernels/reference.h"

namespace ithaca::reference {
namespace {

struct RowIndex {
  at::Tensor rows, positions;  // [n] int64
};

RowIndex row_index(const std::vector<Piece>& pieces, const at::Device& device) {
  std::vector<at::Tensor> rows, positions;
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  for (const Piece& piece : pieces) {
    rows.push_back(at::arange(piece.offset, piece.offset + piece.length, options));
    positions.push_back(at::arange(piece.start, piece.start + piece.length, options));
  }
  return {at::cat(rows), at::cat(positions)};
}

// [S, heads, D] -> the document's rows as [heads, n, D] in opmath.
at::Tensor take(const at::Tensor& t, const at::Tensor& rows) {
  return t.index_select(0, rows).transpose(0, 1).to(at::toOpMathType(t.scalar_type()));
}

at::Tensor kv_head_of_each(const HeadRange& heads, const at::Device& device) {
  std::vector<int64_t> kv(heads.q_count);
  for (int64_t h = 0; h < heads.q_count; ++h) kv[h] = heads.kv_of(h);
  return at::tensor(kv, at::TensorOptions().dtype(at::kLong)).to(device);
}

double scale_of(const AttentionPattern& pattern, int64_t head_dim) {
  return pattern.scale != 0 ? pattern.scale : 1 / std::sqrt(static_cast<double>(head_dim));
}

// [q, k] bool: what the pattern allows within one document.
at::Tensor allowed(const RowIndex& qi, const RowIndex& ki, const AttentionPattern& pattern) {
  const at::Tensor i = qi.positions.unsqueeze(1), j = ki.positions.unsqueeze(0);
  at::Tensor seen = (i - j).ge(pattern.causal ? 0 : std::numeric_limits<int64_t>::min());
  if (pattern.window > 0) seen = seen.logical_and((i - j).abs().lt(pattern.window));
  const SparseBlocks& sparse = pattern.sparse;
  if (!sparse.enabled()) return seen;
  const at::Tensor qb = i.floor_divide(sparse.block), kb = j.floor_divide(sparse.block);
  if (sparse.mask_blocks > 0) {
    const int64_t n = sparse.mask_blocks;
    std::vector<int64_t> bits(sparse.mask.begin(), sparse.mask.end());
    const at::Tensor mask = at::tensor(bits, at::TensorOptions().dtype(at::kLong)).to(i.device()).ne(0);
    const at::Tensor inside = qb.lt(n).logical_and(kb.lt(n));
    const at::Tensor index = at::where(inside, qb * n + kb, at::scalar_tensor(0, qb.options()));
    return seen.logical_and(inside).logical_and(
        mask.index_select(0, index.reshape({-1})).reshape(index.sizes()));
  }
  const at::Tensor local =
      qb.floor_divide(sparse.num_local_blocks).eq(kb.floor_divide(sparse.num_local_blocks));
  const at::Tensor global =
      kb.remainder(sparse.num_local_blocks).ge(sparse.num_local_blocks - sparse.num_global_blocks);
  return seen.logical_and(local.logical_or(global));
}

// [H, q, k] scaled scores, -inf where the pattern forbids.
at::Tensor masked_scores(const at::Tensor& q, const at::Tensor& k, const RowIndex& qi, const RowIndex& ki,
                         const HeadRange& heads, const AttentionPattern& pattern) {
  at::Tensor scores = at::matmul(q, k.transpose(1, 2)) * scale_of(pattern, q.size(-1));
  if (!pattern.alibi_slopes.empty()) {
    const at::Tensor slopes = at::tensor(pattern.alibi_slopes, at::kDouble)
                                  .narrow(0, heads.q_begin, heads.q_count)
                                  .to(scores.options());
    scores = scores - slopes.view({-1, 1, 1}) *
                          (qi.positions.unsqueeze(1) - ki.positions.unsqueeze(0)).abs().to(scores.options());
  }
  return at::where(allowed(qi, ki, pattern), scores,
                   at::scalar_tensor(-std::numeric_limits<double>::infinity(), scores.options()));
}

// exp(scores - lse), 0 in a row that sees nothing; NaN where a score is infinity.
at::Tensor probabilities(const at::Tensor& scores, const at::Tensor& lse) {
  const at::Tensor nothing = lse.eq(-std::numeric_limits<double>::infinity());
  return at::exp(scores - lse.masked_fill(nothing, 0).unsqueeze(-1));
}

std::vector<int64_t> bounds_of(const AttentionPattern& pattern, int64_t b) {
  return pattern.documents.empty() ? std::vector<int64_t>{} : pattern.documents[b];
}

}  // namespace

AttentionOutput attention_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                const AttentionPattern& pattern) {
  const auto acc = q.options().dtype(at::toOpMathType(q.scalar_type()));
  AttentionOutput result{
      at::zeros(q.sizes(), q.options()),
      at::full({q.size(0), q.size(2), q.size(1)}, -std::numeric_limits<double>::infinity(), acc)};
  const at::Tensor kv = kv_head_of_each(heads, q.device());
  for (int64_t b = 0; b < q.size(0); ++b) {
    for (const DocumentRows& document : document_rows(q_rows, k_rows, bounds_of(pattern, b))) {
      const RowIndex qi = row_index(document.q, q.device()), ki = row_index(document.k, q.device());
      const at::Tensor scores =
          masked_scores(take(q[b], qi.rows), take(k[b], ki.rows).index_select(0, kv), qi, ki, heads, pattern);
      const at::Tensor lse = at::logsumexp(scores, -1);
      const at::Tensor out = at::matmul(probabilities(scores, lse), take(v[b], ki.rows).index_select(0, kv));
      result.out[b].index_copy_(0, qi.rows, out.transpose(0, 1).to(q.scalar_type()));
      result.lse[b].index_copy_(1, qi.rows, lse);
    }
  }
  return result;
}

AttentionGrads attention_block_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                        const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                        const AttentionPattern& pattern) {
  const auto acc = q.options().dtype(at::toOpMathType(q.scalar_type()));
  AttentionGrads grads{at::zeros(q.sizes(), acc), at::zeros(k.sizes(), acc), at::zeros(v.sizes(), acc)};
  const at::Tensor kv = kv_head_of_each(heads, q.device());
  const double scale = scale_of(pattern, q.size(-1));
  for (int64_t b = 0; b < q.size(0); ++b) {
    for (const DocumentRows& document : document_rows(q_rows, k_rows, bounds_of(pattern, b))) {
      const RowIndex qi = row_index(document.q, q.device()), ki = row_index(document.k, q.device());
      const at::Tensor qd = take(q[b], qi.rows), kd = take(k[b], ki.rows).index_select(0, kv),
                       vd = take(v[b], ki.rows).index_select(0, kv), dod = take(dout[b], qi.rows),
                       od = take(out[b], qi.rows);
      const at::Tensor p =
          probabilities(masked_scores(qd, kd, qi, ki, heads, pattern), lse[b].index_select(1, qi.rows));
      const at::Tensor dp = at::matmul(dod, vd.transpose(1, 2));
      const at::Tensor ds = p * (dp - (dod * od).sum(-1, /*keepdim=*/true)) * scale;
      const auto put = [&](const at::Tensor& to, const at::Tensor& rows, const at::Tensor& grad) {
        to.index_copy_(0, rows, grad.transpose(0, 1));
      };
      const auto to_kv_heads = [&](const at::Tensor& grad) {
        return at::zeros({k.size(2), grad.size(1), grad.size(2)}, acc).index_add_(0, kv, grad);
      };
      put(grads.dq[b], qi.rows, at::matmul(ds, kd));
      put(grads.dk[b], ki.rows, to_kv_heads(at::matmul(ds.transpose(1, 2), qd)));
      put(grads.dv[b], ki.rows, to_kv_heads(at::matmul(p.transpose(1, 2), dod)));
    }
  }
  return grads;
}

}  // namespace ithaca::reference
