// The kernels on an NVIDIA GPU against the naive twin on the CPU. Each case skips itself where there is no CUDA device:
// a CPU build compiles this file and counts its cases as skipped. Shape letters: B batch, S rows, H query heads,
// K kv heads, D head size, C hidden, V vocabulary.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "ithaca/base/error.h"
#include "ithaca/kernels/reference.h"
#include "ithaca/kernels/rotary.h"
#include "tests/kernels/support.h"

namespace ithaca {
namespace {

using test::random;
using test::relative_rms;

// bf16 keeps 8 bits; the twin runs in float64 on the same rounded inputs, so what is compared is one operator's
// rounding: of the result (2^-9 at most, about 0.0017 in the mean) and of what the kernel rounds on its way.
constexpr double kForward = 0.01, kBackward = 0.02, kLse = 1e-3;

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "needs a CUDA device and a build with CUDA (make gpu-test)";
  }
  static at::Tensor cuda(const at::Tensor& t) { return t.to(at::kCUDA); }
  static at::Tensor exact(const at::Tensor& t) { return t.to(at::kDouble); }
  static void expect_near(const at::Tensor& got, const at::Tensor& expected, double tolerance,
                          const char* what) {
    EXPECT_LE(relative_rms(got.cpu(), expected), tolerance) << what;
  }
};

void compare_attention(AttentionBackend backend, const HeadRange& heads, int64_t head_size,
                       const AttentionPattern& pattern, const Rows& rows = {{0, 200}}) {
  const int64_t b = 2, s = 200;
  const at::Tensor q = random({b, s, heads.q_count, head_size}, 1, at::kBFloat16);
  const at::Tensor k = random({b, s, heads.kv_count, head_size}, 2, at::kBFloat16);
  const at::Tensor v = random({b, s, heads.kv_count, head_size}, 3, at::kBFloat16);
  const at::Tensor dout = random({b, s, heads.q_count, head_size}, 4, at::kBFloat16);
  const auto on_gpu = [](const at::Tensor& t) { return t.to(at::kCUDA); };
  const auto in_float64 = [](const at::Tensor& t) { return t.to(at::kDouble); };
  const AttentionOutput got =
      attention_block(on_gpu(q), on_gpu(k), on_gpu(v), rows, rows, heads, pattern, backend);
  const AttentionOutput twin =
      reference::attention_block(in_float64(q), in_float64(k), in_float64(v), rows, rows, heads, pattern);
  EXPECT_LE(relative_rms(got.out.cpu(), twin.out), kForward) << "out";
  EXPECT_LE(test::distance(got.lse.cpu(), twin.lse), kLse) << "lse";  // -infinity in the same places, too
  const AttentionGrads grads = attention_block_backward(
      on_gpu(dout), on_gpu(q), on_gpu(k), on_gpu(v), got.out, got.lse, rows, rows, heads, pattern, backend);
  const AttentionGrads twin_grads =
      reference::attention_block_backward(in_float64(dout), in_float64(q), in_float64(k), in_float64(v),
                                          twin.out, twin.lse, rows, rows, heads, pattern);
  EXPECT_LE(relative_rms(grads.dq.cpu(), twin_grads.dq), kBackward) << "dq";
  EXPECT_LE(relative_rms(grads.dk.cpu(), twin_grads.dk), kBackward) << "dk";
  EXPECT_LE(relative_rms(grads.dv.cpu(), twin_grads.dv), kBackward) << "dv";
}

TEST_F(Gpu, FlashAndCudnnEqualTheNaiveTwin) {
  const std::vector<HeadRange> head_ranges = {HeadRange::all(8, 8), HeadRange::all(9, 3), {0, 5, 9, 0, 2, 3}};
  const std::vector<std::vector<std::vector<int64_t>>> documents = {
      {}, {{0, 1, 77, 200}, {0, 200}}, {{0, 150}, {0, 64}}};
  for (const AttentionBackend backend : {AttentionBackend::kFlash, AttentionBackend::kCudnn})
    for (const HeadRange& heads : head_ranges)
      for (const int64_t head_size : {64, 128})
        for (std::size_t i = 0; i < documents.size(); ++i)
          for (const bool causal : {true, false}) {
            SCOPED_TRACE(str(backend == AttentionBackend::kFlash ? "flash " : "cudnn ", heads.q_count, '/',
                             heads.kv_count, " heads of ", head_size, ", documents ", i, ", causal ",
                             causal));
            compare_attention(backend, heads, head_size, {causal, 0.0, documents[i]});
          }
}

// Windows go to FlashAttention, one call for all documents where rows are whole; auto finds it.
TEST_F(Gpu, WindowsEqualTheNaiveTwin) {
  for (const AttentionBackend backend : {AttentionBackend::kFlash, AttentionBackend::kAuto})
    for (const int64_t window : {1, 17, 64, 300})
      for (const bool causal : {true, false})
        for (const std::vector<std::vector<int64_t>>& documents :
             std::vector<std::vector<std::vector<int64_t>>>{{}, {{0, 1, 77, 200}, {0, 150}}}) {
          SCOPED_TRACE(str("window ", window, ", causal ", causal, ", documents ", documents.size()));
          compare_attention(backend, {0, 5, 9, 0, 2, 3}, 64,
                            {.causal = causal, .documents = documents, .window = window});
        }
  EXPECT_THROW(compare_attention(AttentionBackend::kCudnn, HeadRange::all(2, 2), 64, {.window = 8}),
               UserError);
}

// The rows of a ring rank: partial results of several calls, merged.
TEST_F(Gpu, RowsInSeveralRunsEqualTheNaiveTwin) {
  const Rows zigzag{{100, 50}, {350, 50}, {0, 100}};
  for (const AttentionBackend backend : {AttentionBackend::kFlash, AttentionBackend::kCudnn})
    for (const int64_t window : {0, 120}) {
      if (window > 0 && backend == AttentionBackend::kCudnn) continue;
      SCOPED_TRACE(str(backend == AttentionBackend::kFlash ? "flash" : "cudnn", ", window ", window));
      compare_attention(backend, HeadRange::all(9, 3), 64, {.window = window}, zigzag);
      compare_attention(backend, HeadRange::all(9, 3), 64,
                        {.documents = {{0, 120, 400}, {0, 380}}, .window = window}, zigzag);
    }
}

TEST_F(Gpu, RmsNormEqualsTheNaiveTwin) {
  const at::Tensor x = random({3, 50, 576}, 1, at::kBFloat16), weight = random({576}, 2, at::kBFloat16);
  const at::Tensor dy = random({3, 50, 576}, 3, at::kBFloat16);
  const RmsNormOutput got = rms_norm(cuda(x), cuda(weight), 1e-5);
  const RmsNormOutput twin = reference::rms_norm(exact(x), exact(weight), 1e-5);
  expect_near(got.y, twin.y, kForward, "y");
  expect_near(got.rstd, twin.rstd, kLse, "rstd");
  const RmsNormGrads grads = rms_norm_backward(cuda(dy), cuda(x), cuda(weight), got.rstd);
  const RmsNormGrads twin_grads = reference::rms_norm_backward(exact(dy), exact(x), exact(weight), twin.rstd);
  expect_near(grads.dx, twin_grads.dx, kBackward, "dx");
  expect_near(grads.dweight, twin_grads.dweight, kBackward, "dweight");
}

TEST_F(Gpu, RotaryEqualsTheNaiveTwin) {
  const at::Tensor x = random({2, 40, 9, 64}, 1, at::kBFloat16);
  const at::Tensor angle = random({40, 32}, 2, at::kFloat);
  const at::Tensor cos = angle.cos(), sin = angle.sin();
  for (const bool inverse : {false, true})
    expect_near(rotary(cuda(x), cuda(cos), cuda(sin), inverse),
                reference::rotary(exact(x), exact(cos), exact(sin), inverse), kForward, "rotary");
}

TEST_F(Gpu, SwigluEqualsTheNaiveTwin) {
  const at::Tensor gate = random({70, 1536}, 1, at::kBFloat16), up = random({70, 1536}, 2, at::kBFloat16);
  const at::Tensor dy = random({70, 1536}, 3, at::kBFloat16);
  expect_near(swiglu(cuda(gate), cuda(up)), reference::swiglu(exact(gate), exact(up)), kForward, "y");
  const SwigluGrads got = swiglu_backward(cuda(dy), cuda(gate), cuda(up));
  const SwigluGrads twin = reference::swiglu_backward(exact(dy), exact(gate), exact(up));
  expect_near(got.dgate, twin.dgate, kBackward, "dgate");
  expect_near(got.dup, twin.dup, kBackward, "dup");
}

TEST_F(Gpu, LinearCrossEntropyEqualsTheNaiveTwin) {
  const int64_t n = 90, c = 64, v = 300;
  const at::Tensor hidden = random({n, c}, 1, at::kBFloat16);
  const at::Tensor weight = (random({v, c}, 2) * 0.1).to(at::kBFloat16);
  at::Tensor labels = at::full({n}, 7, at::kLong);
  for (int64_t i = 0; i < n; ++i) labels[i].fill_(i % 5 == 0 ? -100 : i * 3 % v);
  const at::Tensor sums = at::zeros({v, c}, at::kFloat).to(at::kCUDA);
  const at::Tensor twin_sums = at::zeros({v, c}, at::kDouble);
  const int64_t small_tile = 16 * v * 4;  // several tiles, the last one short
  const LinearCrossEntropyOutput got =
      linear_cross_entropy_with_grad(cuda(hidden), cuda(weight), cuda(labels), sums, small_tile);
  const LinearCrossEntropyOutput twin =
      reference::linear_cross_entropy_with_grad(exact(hidden), exact(weight), labels, twin_sums);
  expect_near(got.loss, twin.loss, kLse, "loss");
  expect_near(got.dhidden, twin.dhidden, kBackward, "dhidden");
  expect_near(sums, twin_sums, kBackward, "dweight");
  expect_near(linear_cross_entropy(cuda(hidden), cuda(weight), cuda(labels), small_tile), twin.loss, kLse,
              "loss without gradients");
}

}  // namespace
}  // namespace ithaca
