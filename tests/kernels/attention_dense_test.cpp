// The loop around kernels that know only runs of rows, with kernels written out in ATen in place of a GPU's: any
// rows, documents, windows and heads against the naive twin. Shape letters: B batch, S rows, H query heads, K kv
// heads, D head size.
#include "ithaca/kernels/attention_dense.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <limits>
#include <random>

#include "ithaca/base/error.h"
#include "ithaca/kernels/reference.h"
#include "tests/kernels/support.h"

namespace ithaca {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
int packed_calls = 0;

at::Tensor heads_first(const at::Tensor& t, int64_t heads) {
  return t.transpose(1, 2).repeat_interleave(heads / t.size(2), 1);
}

// Scaled scores [B, H, Q, N], -infinity outside the band.
at::Tensor scores(const at::Tensor& q, const at::Tensor& k, Band band, double scale) {
  const int64_t rows = q.size(1), keys = k.size(1), heads = q.size(2);
  const at::Tensor ahead = at::arange(keys).unsqueeze(0) - at::arange(rows).unsqueeze(1) - (keys - rows);
  at::Tensor s = at::matmul(heads_first(q, heads), heads_first(k, heads).transpose(2, 3)) * scale;
  if (band.right >= 0) s = s.masked_fill(ahead > band.right, -kInfinity);
  if (band.left >= 0) s = s.masked_fill(-ahead > band.left, -kInfinity);
  return s;
}

AttentionOutput forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, Band band,
                        double scale) {
  const at::Tensor s = scores(q, k, band, scale), lse = s.logsumexp(-1);
  EXPECT_TRUE(lse.isfinite().all().item<bool>()) << "a query without a key";
  return {at::matmul((s - lse.unsqueeze(-1)).exp(), heads_first(v, q.size(2))).transpose(1, 2), lse};
}

at::Tensor sum_of_heads(const at::Tensor& grad, int64_t kv_heads) {  // [B, H, N, D] to [B, N, K, D]
  return grad.unflatten(1, {kv_heads, -1}).sum(2).transpose(1, 2);
}

AttentionGrads backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, Band band, double scale) {
  EXPECT_TRUE(lse.is_contiguous());
  const int64_t heads = q.size(2), kv_heads = k.size(2);
  const at::Tensor p = (scores(q, k, band, scale) - lse.unsqueeze(-1)).exp(), d = heads_first(dout, heads);
  const at::Tensor dp = at::matmul(d, heads_first(v, heads).transpose(2, 3));
  const at::Tensor ds = p * (dp - (d * heads_first(out, heads)).sum(-1, true)) * scale;
  return {at::matmul(ds, heads_first(k, heads)).transpose(1, 2),
          sum_of_heads(at::matmul(ds.transpose(2, 3), heads_first(q, heads)), kv_heads),
          sum_of_heads(at::matmul(p.transpose(2, 3), d), kv_heads)};
}

template <class F>
void for_each_document(const PackedBounds& bounds, F f) {
  ++packed_calls;
  for (std::size_t i = 0; i + 1 < bounds.q.size(); ++i) {
    EXPECT_LE(bounds.q[i + 1] - bounds.q[i], bounds.longest_q);
    EXPECT_LE(bounds.k[i + 1] - bounds.k[i], bounds.longest_k);
    f([&, i](const at::Tensor& t) { return t.slice(0, bounds.q[i], bounds.q[i + 1]).unsqueeze(0); },
      [&, i](const at::Tensor& t) { return t.slice(0, bounds.k[i], bounds.k[i + 1]).unsqueeze(0); },
      [&, i](const at::Tensor& t) {
        return t.slice(1, bounds.q[i], bounds.q[i + 1]).unsqueeze(0).contiguous();
      });
  }
}

AttentionOutput packed_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const PackedBounds& bounds, Band band, double scale) {
  std::vector<at::Tensor> outs, lses;
  for_each_document(bounds, [&](const auto& of_q, const auto& of_k, const auto&) {
    const AttentionOutput part = forward(of_q(q), of_k(k), of_k(v), band, scale);
    outs.push_back(part.out[0]);
    lses.push_back(part.lse[0]);
  });
  return {at::cat(outs), at::cat(lses, 1)};
}

AttentionGrads packed_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                               const PackedBounds& bounds, Band band, double scale) {
  std::vector<at::Tensor> dq, dk, dv;
  for_each_document(bounds, [&](const auto& of_q, const auto& of_k, const auto& of_lse) {
    const AttentionGrads part =
        backward(of_q(dout), of_q(q), of_k(k), of_k(v), of_q(out), of_lse(lse), band, scale);
    dq.push_back(part.dq[0]);
    dk.push_back(part.dk[0]);
    dv.push_back(part.dv[0]);
  });
  return {at::cat(dq), at::cat(dk), at::cat(dv)};
}

const DenseAttention kSquares = {"squares", false, forward, backward};
const DenseAttention kBands = {"bands", true, forward, backward};
const DenseAttention kPacked = {"packed", true, forward, backward, packed_forward, packed_backward};

// Some of the positions [0, end) as runs, in any order.
Rows random_rows(int64_t end, std::mt19937_64& random) {
  Rows rows;
  for (int64_t at = static_cast<int64_t>(random() % 4); at < end;) {
    const int64_t length = std::min<int64_t>(1 + static_cast<int64_t>(random() % 12), end - at);
    rows.push_back({at, length});
    at += length + static_cast<int64_t>(random() % 3) * static_cast<int64_t>(random() % 5);
  }
  std::shuffle(rows.begin(), rows.end(), random);
  return rows;
}

int64_t count(const Rows& rows) {
  int64_t total = 0;
  for (const RowRun& run : rows) total += run.length;
  return total;
}

struct Case {
  Rows q_rows, k_rows;
  HeadRange heads;
  AttentionPattern pattern;
};

void expect_equal_to_naive(const DenseAttention& kernel, const Case& c, uint64_t seed) {
  const int64_t batch = 2, d = 4;
  const auto make = [&](const Rows& rows, int64_t heads, unsigned of) {
    return test::random({batch, count(rows), heads, d}, static_cast<unsigned>(10 * seed) + of, at::kDouble);
  };
  const at::Tensor q = make(c.q_rows, c.heads.q_count, 1), dout = make(c.q_rows, c.heads.q_count, 2),
                   k = make(c.k_rows, c.heads.kv_count, 3), v = make(c.k_rows, c.heads.kv_count, 4);
  const AttentionOutput want = reference::attention_block(q, k, v, c.q_rows, c.k_rows, c.heads, c.pattern);
  const AttentionOutput got = dense_forward(kernel, q, k, v, c.q_rows, c.k_rows, c.heads, c.pattern);
  EXPECT_LE(test::distance(got.out, want.out), 1e-12) << "out";
  EXPECT_LE(test::distance(got.lse, want.lse), 1e-12) << "lse";

  AttentionOutput total{at::zeros(q.sizes(), at::kDouble),
                        at::full({batch, c.heads.q_count, q.size(1)}, -kInfinity, at::kDouble)};
  dense_forward_add(kernel, total, q, k, v, c.q_rows, c.k_rows, c.heads, c.pattern);
  EXPECT_LE(test::distance(total.out, want.out), 1e-12) << "added out";
  EXPECT_LE(test::distance(total.lse, want.lse), 1e-12) << "added lse";

  const AttentionGrads expected = reference::attention_block_backward(dout, q, k, v, want.out, want.lse,
                                                                      c.q_rows, c.k_rows, c.heads, c.pattern);
  AttentionGrads grads{at::zeros_like(q), at::zeros_like(k), at::zeros_like(v)};
  dense_backward_add(kernel, grads, dout, q, k, v, got.out, got.lse, c.q_rows, c.k_rows, c.heads, c.pattern);
  EXPECT_LE(test::distance(grads.dq, expected.dq), 1e-12) << "dq";
  EXPECT_LE(test::distance(grads.dk, expected.dk), 1e-12) << "dk";
  EXPECT_LE(test::distance(grads.dv, expected.dv), 1e-12) << "dv";
}

const std::vector<HeadRange> kHeads = {HeadRange::all(4, 2), {0, 5, 9, 0, 2, 3}, HeadRange::all(1, 1)};
const std::vector<std::vector<std::vector<int64_t>>> kDocuments = {
    {}, {{0, 40}, {0, 40}}, {{0, 1, 1, 17, 40}, {0, 8, 30}}, {{0, 0, 5, 6, 7, 29}, {0}}};

TEST(DenseAttention, AnyRowsEqualTheNaiveTwin) {
  std::mt19937_64 random(1);
  uint64_t cases = 0;
  for (const DenseAttention& kernel : {kSquares, kBands, kPacked})
    for (const bool causal : {true, false})
      for (const auto& documents : kDocuments)
        for (const int64_t window : {0, 1, 3, 11, 50}) {
          if (window > 0 && !kernel.bands) continue;
          SCOPED_TRACE(str(kernel.name, " causal ", causal, " window ", window, " documents ",
                           documents.empty() ? 0 : documents[0].size()));
          for (int i = 0; i < 6; ++i, ++cases)
            expect_equal_to_naive(kernel,
                                  {random_rows(40, random),
                                   random_rows(40, random),
                                   kHeads[cases % kHeads.size()],
                                   {.causal = causal, .documents = documents, .window = window}},
                                  cases);
          if (HasFailure()) FAIL() << "the first setting that fails ends the test";
        }
}

TEST(DenseAttention, WholeDocumentsArePackedIntoOneCall) {
  const Rows rows{{0, 40}};
  for (const int64_t window : {0, 7}) {
    packed_calls = 0;
    expect_equal_to_naive(
        kPacked, {rows, rows, HeadRange::all(4, 2), {.documents = kDocuments[2], .window = window}}, 1);
    EXPECT_EQ(packed_calls, 3) << "one call each: forward, forward added, backward";
    packed_calls = 0;
    expect_equal_to_naive(kPacked, {rows, rows, HeadRange::all(4, 2), {.window = window}}, 2);
    EXPECT_EQ(packed_calls, 0) << "one document needs no packing";
  }
}

// What is asked of kernels without bands, at the places where queries and keys can lie to each other.
TEST(DenseAttention, TasksOfKernelsWithoutBands) {
  const auto tasks = [](RowRun q, RowRun k, bool causal) {
    return dense_tasks(document_rows({q}, {k}, {}), causal, 0, false);
  };
  using Tasks = std::vector<DenseTask>;
  EXPECT_EQ(tasks({8, 4}, {8, 4}, true), (Tasks{{0, 4, 0, 4, {-1, 0}}}));
  EXPECT_EQ(tasks({8, 4}, {2, 4}, true), (Tasks{{0, 4, 0, 4, {}}}));
  EXPECT_EQ(tasks({8, 4}, {12, 4}, true), Tasks{});
  EXPECT_EQ(tasks({8, 4}, {12, 4}, false), (Tasks{{0, 4, 0, 4, {}}}));
  EXPECT_EQ(tasks({8, 4}, {6, 4}, true), (Tasks{{0, 4, 0, 2, {}}, {0, 2, 2, 2, {-1, 0}}, {2, 2, 2, 2, {}}}));
  EXPECT_EQ(tasks({8, 4}, {10, 4}, true), (Tasks{{2, 2, 0, 2, {-1, 0}}}));
  EXPECT_EQ(tasks({8, 1}, {8, 1}, true), (Tasks{{0, 1, 0, 1, {}}}));
}

}  // namespace
}  // namespace ithaca
