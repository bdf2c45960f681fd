// attention_block: ithaca's and the dense backend against the naive twin, and the naive twin against numerical
// differentiation. Shape letters: B batch, S rows, H query heads, K kv heads, D head size.
#include "ithaca/kernels/attention_block.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <limits>

#include "ithaca/base/error.h"
#include "ithaca/kernels/attention_plan.h"
#include "tests/kernels/support.h"

namespace ithaca {
namespace {

using test::distance;
using test::random;

constexpr AttentionBackend kAten = AttentionBackend::kAten, kNaive = AttentionBackend::kNaive,
                           kIthaca = AttentionBackend::kIthaca;

struct Inputs {
  at::Tensor q, k, v, dout;
};

Inputs make_inputs(int64_t b, int64_t sq, int64_t sk, int64_t h, int64_t kv, int64_t d,
                   at::ScalarType dtype) {
  return {random({b, sq, h, d}, 1, dtype), random({b, sk, kv, d}, 2, dtype), random({b, sk, kv, d}, 3, dtype),
          random({b, sq, h, d}, 4, dtype)};
}

struct Results {
  at::Tensor out, lse, dq, dk, dv;
};

Results run(const Inputs& in, const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
            const AttentionPattern& pattern, AttentionBackend backend) {
  const AttentionOutput f = attention_block(in.q, in.k, in.v, q_rows, k_rows, heads, pattern, backend);
  const AttentionGrads g = attention_block_backward(in.dout, in.q, in.k, in.v, f.out, f.lse, q_rows, k_rows,
                                                    heads, pattern, backend);
  return {f.out, f.lse, g.dq, g.dk, g.dv};
}

void expect_contract(const Results& r, const Inputs& in, at::ScalarType acc) {
  EXPECT_EQ(r.out.sizes(), in.q.sizes());
  EXPECT_EQ(r.out.scalar_type(), in.q.scalar_type());
  EXPECT_EQ(r.lse.sizes(), (at::IntArrayRef{in.q.size(0), in.q.size(2), in.q.size(1)}));
  EXPECT_TRUE(r.lse.is_contiguous());
  for (const at::Tensor& t : {r.lse, r.dq, r.dk, r.dv}) EXPECT_EQ(t.scalar_type(), acc);
  EXPECT_EQ(r.dk.sizes(), in.k.sizes());
}

void expect_close(const Results& a, const Results& b, double tolerance) {
  EXPECT_LE(distance(a.out, b.out), tolerance) << "out";
  EXPECT_LE(distance(a.lse, b.lse), tolerance) << "lse";
  EXPECT_LE(distance(a.dq, b.dq), tolerance) << "dq";
  EXPECT_LE(distance(a.dk, b.dk), tolerance) << "dk";
  EXPECT_LE(distance(a.dv, b.dv), tolerance) << "dv";
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

struct Shape {
  const char* name;
  HeadRange heads;
  int64_t d;
};

// 9 / 3 heads on two ranks are 5 over kv 0 0 0 1 1 and 4 over kv 0 1 1 1 (global kv 1 and 2).
const Shape kShapes[] = {
    {"mha", HeadRange::all(5, 5), 8},           {"gqa", HeadRange::all(8, 2), 16},
    {"mqa", HeadRange::all(7, 1), 12},          {"smollm", HeadRange::all(9, 3), 64},
    {"first_of_2", {0, 5, 9, 0, 2, 3}, 64},     {"second_of_2", {5, 4, 9, 1, 2, 3}, 64},
    {"odd_head_size", HeadRange::all(2, 1), 7}, {"unused_kv", {0, 2, 8, 0, 2, 2}, 8},
};

const std::vector<std::vector<std::vector<int64_t>>> kDocuments = {
    {}, {{0, 37}, {0, 37}}, {{0, 1, 1, 20, 37}, {0, 37}}, {{0, 10, 30}, {0, 5}}, {{0, 0, 37}, {0}}};

TEST(Attention, KernelsEqualNaiveInFloat64) {
  const int64_t s = 37;
  const Rows rows{{0, s}};
  for (const Shape& shape : kShapes) {
    const Inputs in = make_inputs(2, s, s, shape.heads.q_count, shape.heads.kv_count, shape.d, at::kDouble);
    for (size_t i = 0; i < kDocuments.size(); ++i) {
      for (const bool causal : {true, false}) {
        SCOPED_TRACE(str(shape.name, " documents ", i, " causal ", causal));
        const AttentionPattern pattern{causal, i == 1 ? 0.3 : 0.0, kDocuments[i]};
        const Results aten = run(in, rows, rows, shape.heads, pattern, kAten);
        expect_contract(aten, in, at::kDouble);
        const Results naive = run(in, rows, rows, shape.heads, pattern, kNaive);
        expect_close(aten, naive, 1e-12);
        const Results ithaca = run(in, rows, rows, shape.heads, pattern, kIthaca);
        expect_contract(ithaca, in, at::kDouble);
        expect_close(ithaca, naive, 1e-12);
      }
    }
  }
}

// Longer than one block of the flash kernel, whose blocks depend on the length.
TEST(Attention, LongRowsAndShortTypes) {
  const int64_t s = 700;
  const Rows rows{{0, s}};
  const HeadRange heads{0, 5, 9, 0, 2, 3};
  const AttentionPattern pattern{true, 0, {{0, 300, 690}}};
  const Inputs exact = make_inputs(1, s, s, 5, 2, 64, at::kDouble);
  const Results want = run(exact, rows, rows, heads, pattern, kNaive);
  expect_close(run(exact, rows, rows, heads, pattern, kAten), want, 1e-12);
  const Inputs single{exact.q.to(at::kFloat), exact.k.to(at::kFloat), exact.v.to(at::kFloat),
                      exact.dout.to(at::kFloat)};
  for (const AttentionBackend backend : {kAten, kNaive, kIthaca}) {
    const Results r = run(single, rows, rows, heads, pattern, backend);
    expect_contract(r, single, at::kFloat);
    expect_close(r, want, 1e-5);
  }
}

// More blocks of keys than the backward has chunks; the naive twin's scores would be too large.
TEST(Attention, VeryLongRowsEqualAten) {
  const int64_t s = 10500;  // 5 chunks
  const Rows rows{{0, s}};
  const Inputs in = make_inputs(1, s, s, 1, 1, 8, at::kDouble);
  expect_close(run(in, rows, rows, HeadRange::all(1, 1), {}, kIthaca),
               run(in, rows, rows, HeadRange::all(1, 1), {}, kAten), 1e-12);
}

// The bf16 kernel rounds the probabilities before P V and P^T dO, and writes dq, dk, dv in bf16. Each
// rounding is at most 2^-9 relative, 0.0017 in rms: out carries two of them (P, out), the gradients about
// five (out, P, dS, themselves, dout's row sums).
TEST(Attention, Bf16StaysWithinAFewRoundings) {
  const int64_t s = 300;
  const Rows rows{{0, s}};
  const Inputs in = make_inputs(1, s, s, 9, 3, 64, at::kBFloat16);
  const Inputs wide{in.q.to(at::kDouble), in.k.to(at::kDouble), in.v.to(at::kDouble),
                    in.dout.to(at::kDouble)};
  const AttentionPattern pattern;
  const Results want = run(wide, rows, rows, HeadRange::all(9, 3), pattern, kNaive);
  const double rounding = test::relative_rms(want.out.to(at::kBFloat16), want.out);
  for (const AttentionBackend backend : {kAten, kIthaca}) {
    const Results got = run(in, rows, rows, HeadRange::all(9, 3), pattern, backend);
    expect_contract(got, in, at::kFloat);
    EXPECT_LE(test::relative_rms(got.out, want.out), 1.5 * rounding);
    EXPECT_LE(distance(got.lse, want.lse), 1e-5);
    for (const auto& [a, b] : {std::pair{got.dq, want.dq}, {got.dk, want.dk}, {got.dv, want.dv}})
      EXPECT_LE(test::relative_rms(a, b), 3.5 * rounding);
  }
}

TEST(Attention, StridedInputsGiveTheSameBits) {
  const int64_t s = 50;
  const Rows rows{{0, s}};
  const HeadRange heads = HeadRange::all(4, 2);
  const at::Tensor fused =
      random({2, s, 8, 16}, 9, at::kFloat);  // q, k, v side by side, as one projection gives them
  const Inputs strided{fused.narrow(2, 0, 4), fused.narrow(2, 4, 2), fused.narrow(2, 6, 2),
                       random({2, 4, s, 16}, 10, at::kFloat).transpose(1, 2)};
  const Inputs dense{strided.q.contiguous(), strided.k.contiguous(), strided.v.contiguous(),
                     strided.dout.contiguous()};
  for (const AttentionBackend backend : {kAten, kIthaca}) {
    const Results a = run(strided, rows, rows, heads, {}, backend),
                  b = run(dense, rows, rows, heads, {}, backend);
    for (const auto& [x, y] :
         {std::pair{a.out, b.out}, {a.lse, b.lse}, {a.dq, b.dq}, {a.dk, b.dk}, {a.dv, b.dv}})
      EXPECT_TRUE(test::same_bits(x, y));
  }
}

// Two blocks of keys merged by lse, and differentiated with the merged out and lse, are the whole attention.
TEST(Attention, BlocksCombineToTheWhole) {
  const int64_t s = 24, half = 12;
  const HeadRange heads = HeadRange::all(4, 2);
  const Inputs in = make_inputs(1, s, s, 4, 2, 8, at::kDouble);
  const Results want = run(in, {{0, s}}, {{0, s}}, heads, {}, kNaive);
  const Rows first{{0, half}}, second{{half, half}};
  const at::Tensor q = in.q.narrow(1, half, half), dout = in.dout.narrow(1, half, half);
  const at::Tensor k0 = in.k.narrow(1, 0, half), k1 = in.k.narrow(1, half, half),
                   v0 = in.v.narrow(1, 0, half), v1 = in.v.narrow(1, half, half);
  for (const AttentionBackend backend : {kAten, kNaive, kIthaca}) {
    const AttentionOutput a = attention_block(q, k0, v0, second, first, heads, {}, backend);
    const AttentionOutput b = attention_block(q, k1, v1, second, second, heads, {}, backend);
    const at::Tensor lse = at::logaddexp(a.lse, b.lse);
    const auto share = [&](const at::Tensor& part) {
      return (part - lse).exp().transpose(1, 2).unsqueeze(-1);
    };
    const at::Tensor out = a.out * share(a.lse) + b.out * share(b.lse);
    EXPECT_LE(distance(out, want.out.narrow(1, half, half)), 1e-12);
    EXPECT_LE(distance(lse, want.lse.narrow(2, half, half)), 1e-12);
    const AttentionGrads ga =
        attention_block_backward(dout, q, k0, v0, out, lse, second, first, heads, {}, backend);
    const AttentionGrads gb =
        attention_block_backward(dout, q, k1, v1, out, lse, second, second, heads, {}, backend);
    EXPECT_LE(distance(ga.dq + gb.dq, want.dq.narrow(1, half, half)), 1e-12);
    EXPECT_LE(distance(gb.dk, want.dk.narrow(1, half, half)), 1e-12);
    // Keys after the queries give nothing.
    const AttentionOutput none = attention_block(q, k1, v1, first, second, heads, {}, backend);
    EXPECT_EQ(none.out.abs().max().item<double>(), 0);
    EXPECT_EQ(none.lse.max().item<double>(), -std::numeric_limits<double>::infinity());
    const AttentionGrads zero =
        attention_block_backward(dout, q, k1, v1, none.out, none.lse, first, second, heads, {}, backend);
    EXPECT_EQ(zero.dq.abs().max().item<double>() + zero.dk.abs().max().item<double>() +
                  zero.dv.abs().max().item<double>(),
              0);
  }
}

// Blocks of keys added one after the other, in any order, are the whole attention on every backend.
TEST(Attention, AddedBlocksAreTheWhole) {
  const int64_t s = 24;
  const HeadRange heads = HeadRange::all(4, 2);
  const Inputs in = make_inputs(1, s, s, 4, 2, 8, at::kDouble);
  const Rows rows{{0, s}};
  const Results want = run(in, rows, rows, heads, {}, kNaive);
  // Queries of the last third: two blocks before them, one of their own.
  const Rows q_rows{{16, 8}};
  const at::Tensor q = in.q.narrow(1, 16, 8), dout = in.dout.narrow(1, 16, 8);
  for (const AttentionBackend backend : {kAten, kNaive, kIthaca})
    for (const std::vector<int64_t>& order : {std::vector<int64_t>{0, 8, 16}, {16, 0, 8}, {8, 16, 0}}) {
      AttentionOutput total{at::zeros(q.sizes(), q.options()),
                            at::full({1, 4, 8}, -std::numeric_limits<double>::infinity(), q.options())};
      for (const int64_t begin : order)
        attention_block_add(total, q, in.k.narrow(1, begin, 8), in.v.narrow(1, begin, 8), q_rows,
                            {{begin, 8}}, heads, {}, backend);
      EXPECT_LE(distance(total.out, want.out.narrow(1, 16, 8)), 1e-12);
      EXPECT_LE(distance(total.lse, want.lse.narrow(2, 16, 8)), 1e-12);
      // Keys that nobody sees change nothing, not even a bit.
      const AttentionOutput before{total.out.clone(), total.lse.clone()};
      attention_block_add(total, q, in.k.narrow(1, 0, 8), in.v.narrow(1, 0, 8), q_rows, {{24, 8}}, heads, {},
                          backend);
      EXPECT_TRUE(test::same_bits(total.out, before.out) && test::same_bits(total.lse, before.lse));
      AttentionGrads grads{at::zeros(q.sizes(), q.options()), {}, {}};
      for (const int64_t begin : order) {
        grads.dk = at::ones({1, 8, 2, 8}, q.options());
        grads.dv = at::ones({1, 8, 2, 8}, q.options());
        attention_block_backward_add(grads, dout, q, in.k.narrow(1, begin, 8), in.v.narrow(1, begin, 8),
                                     total.out, total.lse, q_rows, {{begin, 8}}, heads, {}, backend);
        const AttentionGrads part =
            attention_block_backward(dout, q, in.k.narrow(1, begin, 8), in.v.narrow(1, begin, 8), total.out,
                                     total.lse, q_rows, {{begin, 8}}, heads, {}, kNaive);
        EXPECT_LE(distance(grads.dk, part.dk + 1), 1e-12);
        EXPECT_LE(distance(grads.dv, part.dv + 1), 1e-12);
      }
      EXPECT_LE(distance(grads.dq, want.dq.narrow(1, 16, 8)), 1e-12);
    }
}

// The running sums stay in float32 between blocks of short types.
TEST(Attention, RunningSumsAreWide) {
  const Inputs in = make_inputs(1, 16, 16, 2, 1, 16, at::kBFloat16);
  const HeadRange heads = HeadRange::all(2, 1);
  const Inputs wide{in.q.to(at::kFloat), in.k.to(at::kFloat), in.v.to(at::kFloat), in.dout.to(at::kFloat)};
  const Results want = run(wide, {{0, 16}}, {{0, 16}}, heads, {}, kNaive);
  for (const AttentionBackend backend : {kNaive, kIthaca}) {
    AttentionOutput total{at::zeros(in.q.sizes(), at::kFloat),
                          at::full({1, 2, 16}, -std::numeric_limits<double>::infinity(), at::kFloat)};
    attention_block_add(total, in.q, in.k, in.v, {{0, 16}}, {{0, 16}}, heads, {}, backend);
    // ithaca's P is rounded to bf16 where the machine multiplies bf16.
    EXPECT_LE(distance(total.out, want.out), backend == kNaive ? 1e-6 : 5e-3);
    EXPECT_LE(distance(total.lse, want.lse), 1e-5);
    AttentionOutput narrow{total.out.to(at::kBFloat16), total.lse};
    EXPECT_THAT(message_of([&] {
                  attention_block_add(narrow, in.q, in.k, in.v, {{0, 16}}, {{0, 16}}, heads, {}, backend);
                }),
                testing::HasSubstr("total.out"));
    AttentionGrads grads{at::zeros(in.q.sizes(), at::kFloat), at::zeros(in.k.sizes(), at::kFloat),
                         at::zeros(in.q.sizes(), at::kFloat)};
    EXPECT_THAT(message_of([&] {
                  attention_block_backward_add(grads, in.dout, in.q, in.k, in.v, in.q, total.lse, {{0, 16}},
                                               {{0, 16}}, heads, {}, backend);
                }),
                testing::HasSubstr("total.dv"));
  }
}

// A permutation of rows, told by q_rows and k_rows, permutes the results.
TEST(Attention, RowsInAnyOrder) {
  const int64_t s = 16;
  const HeadRange heads = HeadRange::all(2, 1);
  const AttentionPattern pattern{true, 0, {{0, 6, 15}}};
  const Inputs in = make_inputs(1, s, s, 2, 1, 8, at::kDouble);
  const Results want = run(in, {{0, s}}, {{0, s}}, heads, pattern, kNaive);
  const Rows zigzag{{12, 4}, {0, 4}, {8, 4}, {4, 4}};
  const auto permute = [&](const at::Tensor& t, int64_t dim) {
    std::vector<at::Tensor> parts;
    for (const RowRun& run : zigzag) parts.push_back(t.narrow(dim, run.start, run.length));
    return at::cat(parts, dim);
  };
  const Inputs moved{permute(in.q, 1), permute(in.k, 1), permute(in.v, 1), permute(in.dout, 1)};
  for (const AttentionBackend backend : {kAten, kNaive, kIthaca})
    expect_close(run(moved, zigzag, zigzag, heads, pattern, backend),
                 {permute(want.out, 1), permute(want.lse, 2), permute(want.dq, 1), permute(want.dk, 1),
                  permute(want.dv, 1)},
                 1e-13);
}

// NaN in another document, in padding or in another batch row reaches no bit of ours.
TEST(Attention, NothingLeaksBetweenDocuments) {
  const int64_t s = 40;
  const Rows rows{{0, s}};
  const HeadRange heads{0, 5, 9, 0, 2, 3};
  const AttentionPattern pattern{true, 0, {{0, 13, 30}, {0, 13, 30}}};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Inputs clean = make_inputs(2, s, s, 5, 2, 64, dtype);
    Inputs dirty{clean.q.clone(), clean.k.clone(), clean.v.clone(), clean.dout.clone()};
    for (const at::Tensor& t : {dirty.q, dirty.k, dirty.v, dirty.dout}) {
      t[0].narrow(0, 0, 13).fill_(nan);
      t.narrow(1, 30, 10).fill_(nan);
    }
    for (const AttentionBackend backend : {kAten, kNaive, kIthaca}) {
      const Results a = run(clean, rows, rows, heads, pattern, backend),
                    b = run(dirty, rows, rows, heads, pattern, backend);
      for (const auto& [x, y] : {std::pair{a.out, b.out}, {a.dq, b.dq}, {a.dk, b.dk}, {a.dv, b.dv}}) {
        EXPECT_TRUE(test::same_bits(x[0].narrow(0, 13, 17), y[0].narrow(0, 13, 17)));
        EXPECT_TRUE(test::same_bits(x[1], y[1]));
        EXPECT_EQ(y.narrow(1, 30, 10).abs().max().item<double>(), 0);
      }
      EXPECT_TRUE(test::same_bits(a.lse[1], b.lse[1]));
      EXPECT_EQ(b.lse.narrow(2, 30, 10).max().item<double>(), -std::numeric_limits<double>::infinity());
    }
  }
}

TEST(Attention, NaiveGradientsEqualNumericalDifferentiation) {
  const int64_t s = 5;
  const Rows rows{{0, s}};
  const HeadRange heads{0, 3, 4, 0, 2, 2};
  const AttentionPattern pattern{true, 0, {{0, 2, 5}}};
  const Inputs in = make_inputs(1, s, s, 3, 2, 3, at::kDouble);
  const Results got = run(in, rows, rows, heads, pattern, kNaive);
  const auto loss = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return (attention_block(q, k, v, rows, rows, heads, pattern, kNaive).out * in.dout).sum().item<double>();
  };
  EXPECT_LE(distance(got.dq, test::numerical_gradient(
                                 in.q, [&](const at::Tensor& q) { return loss(q, in.k, in.v); })),
            1e-8);
  EXPECT_LE(distance(got.dk, test::numerical_gradient(
                                 in.k, [&](const at::Tensor& k) { return loss(in.q, k, in.v); })),
            1e-8);
  EXPECT_LE(distance(got.dv, test::numerical_gradient(
                                 in.v, [&](const at::Tensor& v) { return loss(in.q, in.k, v); })),
            1e-8);
}

TEST(Attention, EmptyTensors) {
  const HeadRange heads = HeadRange::all(2, 1);
  for (const AttentionBackend backend : {kAten, kNaive, kIthaca}) {
    const Inputs no_batch = make_inputs(0, 4, 4, 2, 1, 8, at::kFloat);
    expect_contract(run(no_batch, {{0, 4}}, {{0, 4}}, heads, {}, backend), no_batch, at::kFloat);
    const Inputs no_rows = make_inputs(2, 0, 0, 2, 1, 8, at::kFloat);
    expect_contract(run(no_rows, {}, {{0, 0}}, heads, {}, backend), no_rows, at::kFloat);
    const Inputs no_keys = make_inputs(1, 3, 0, 2, 1, 8, at::kFloat);
    const Results r = run(no_keys, {{0, 3}}, {}, heads, {}, backend);
    EXPECT_EQ(r.lse.max().item<double>(), -std::numeric_limits<double>::infinity());
    EXPECT_EQ(r.dq.abs().max().item<double>(), 0);
  }
}

TEST(Attention, BadInputIsNamed) {
  using testing::HasSubstr;
  const HeadRange heads = HeadRange::all(2, 1);
  const Inputs in = make_inputs(1, 8, 8, 2, 1, 8, at::kFloat);
  const auto message = [&](const Rows& q_rows, const Rows& k_rows, const HeadRange& h,
                           const AttentionPattern& pattern, AttentionBackend backend) {
    return message_of([&] { run(in, q_rows, k_rows, h, pattern, backend); });
  };
  const Rows rows{{0, 8}};
  EXPECT_THAT(message({{0, 7}}, rows, heads, {}, kAten),
              HasSubstr("q_rows describes 7 rows, the tensor has 8"));
  EXPECT_THAT(message(rows, {{-1, 8}}, heads, {}, kAten), HasSubstr("k_rows has a run of 8 rows at -1"));
  EXPECT_THAT(message(rows, rows, HeadRange::all(4, 2), {}, kAten),
              HasSubstr("heads say 4 / 2, the tensors have 2 / 1"));
  EXPECT_THAT(message(rows, rows, {2, 2, 4, 0, 1, 2}, {}, kAten), HasSubstr("need kv heads outside 0 + 1"));
  EXPECT_THAT(message(rows, rows, heads, {true, 0, {{0, 8}, {0, 8}}}, kAten),
              HasSubstr("documents of 2 rows for a batch of 1"));
  EXPECT_THAT(message(rows, rows, heads, {true, 0, {{1, 8}}}, kAten), HasSubstr("must begin with 0"));
  EXPECT_THAT(message(rows, rows, heads, {true, 0, {{0, 6, 4}}}, kAten),
              HasSubstr("document bound 4 comes after 6"));
  EXPECT_THAT(message(rows, rows, heads, {}, AttentionBackend::kCudnn),
              HasSubstr("cudnn needs a CUDA device, the tensors are on cpu"));
  EXPECT_THAT(
      message(rows, rows, heads, {}, AttentionBackend::kCudnn),
      HasSubstr("cudnn needs a CUDA device, the tensors are on cpu. Use auto, ithaca, aten or naive"));
  EXPECT_THAT(message(rows, rows, heads, {.window = 4}, kAten),
              HasSubstr("attention: aten cannot do sliding_window. Use attention: auto, ithaca or naive"));
  EXPECT_THAT(message(rows, rows, heads, {.alibi_slopes = alibi_slopes(2)}, kAten),
              HasSubstr("aten cannot do position_embedding: alibi"));
  const SparseBlocks sparse{.block = 4, .num_local_blocks = 2, .num_global_blocks = 1};
  EXPECT_THAT(message(rows, rows, heads, {.sparse = sparse}, kAten),
              HasSubstr("aten cannot do sparse_attention"));
  EXPECT_THAT(message(rows, rows, heads, {.window = -1}, kIthaca), HasSubstr("window -1"));
  EXPECT_THAT(message(rows, rows, heads, {.alibi_slopes = {1}}, kIthaca),
              HasSubstr("1 ALiBi slopes for 2 query heads"));
  EXPECT_THAT(message(rows, rows, heads,
                      {.sparse = {.block = 4, .num_local_blocks = 1, .num_global_blocks = 2}}, kIthaca),
              HasSubstr("2 global of 1 local"));
  EXPECT_THAT(
      message(rows, rows, heads, {.sparse = {.block = 4, .mask_blocks = 2, .mask = {1, 0, 1}}}, kIthaca),
      HasSubstr("mask of 3 entries for 2 blocks"));
  EXPECT_THAT(message_of([] { attention_backend_from_name("sdpa"); }),
              HasSubstr("\"sdpa\" is unknown; known are auto, naive, ithaca, aten, flash, cudnn"));
  EXPECT_EQ(attention_backend_from_name("auto"), AttentionBackend::kAuto);
}

TEST(Attention, AutoTakesTheFasterKernel) {
  const CpuChoice amx{.tier = CpuTier::kAvx512, .aten_bf16_attention = true};
  const SparseBlocks sparse{.block = 4, .num_local_blocks = 2, .num_global_blocks = 1};
  EXPECT_EQ(auto_on_cpu(at::kBFloat16, {}, amx), kAten);
  EXPECT_EQ(auto_on_cpu(at::kBFloat16, {.causal = false, .documents = {{0, 4, 9}}}, amx), kAten);
  EXPECT_EQ(auto_on_cpu(at::kFloat, {}, amx), kIthaca);
  EXPECT_EQ(auto_on_cpu(at::kHalf, {}, amx), kIthaca);
  EXPECT_EQ(auto_on_cpu(at::kBFloat16, {.window = 4}, amx), kIthaca);
  EXPECT_EQ(auto_on_cpu(at::kBFloat16, {.alibi_slopes = alibi_slopes(2)}, amx), kIthaca);
  EXPECT_EQ(auto_on_cpu(at::kBFloat16, {.sparse = sparse}, amx), kIthaca);
  for (const CpuTier tier : {CpuTier::kBaseline, CpuTier::kAvx2, CpuTier::kAvx512, CpuTier::kAvx512Bf16})
    EXPECT_EQ(auto_on_cpu(at::kBFloat16, {}, {.tier = tier}), kIthaca);
}

// What auto and flash mean on a CPU.
TEST(Attention, AutoAndFlashAreIthacaOnCpu) {
  const Inputs in = make_inputs(1, 30, 30, 4, 2, 16, at::kFloat);
  const Rows rows{{0, 30}};
  const Results want = run(in, rows, rows, HeadRange::all(4, 2), {}, kIthaca);
  for (const AttentionBackend backend : {AttentionBackend::kAuto, AttentionBackend::kFlash}) {
    const Results got = run(in, rows, rows, HeadRange::all(4, 2), {}, backend);
    EXPECT_TRUE(test::same_bits(got.out, want.out));
    EXPECT_TRUE(test::same_bits(got.dk, want.dk));
  }
}

TEST(AttentionPlan, HeadGroups) {
  EXPECT_EQ(head_groups(HeadRange::all(9, 3)), (std::vector<HeadGroup>{{0, 9, 0, 3}}));
  EXPECT_EQ(head_groups({0, 5, 9, 0, 2, 3}), (std::vector<HeadGroup>{{0, 3, 0, 1}, {3, 2, 1, 1}}));
  EXPECT_EQ(head_groups({5, 4, 9, 1, 2, 3}), (std::vector<HeadGroup>{{0, 1, 0, 1}, {1, 3, 1, 1}}));
  EXPECT_EQ(head_groups(HeadRange::all(5, 2)), (std::vector<HeadGroup>{{0, 3, 0, 1}, {3, 2, 1, 1}}));
  EXPECT_EQ(head_groups({0, 0, 8, 0, 0, 2}), std::vector<HeadGroup>{});
}

}  // namespace
}  // namespace ithaca
