// Layers against ATen's own operators differentiated by autograd, in float64 (rounding only: 1e-12).
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ithaca/base/error.h"
#include "ithaca/nn/attention.h"
#include "ithaca/nn/embedding.h"
#include "ithaca/nn/linear_cross_entropy.h"
#include "ithaca/nn/mlp.h"
#include "ithaca/nn/norm.h"
#include "tests/nn/within.h"

namespace ithaca {
namespace {

constexpr double kRounding = 1e-12;

at::Tensor random(at::IntArrayRef shape, at::ScalarType dtype = at::kDouble) {
  return at::randn(shape, dtype);
}
at::Tensor leaf(const at::Tensor& x) {
  return x.detach().clone().set_requires_grad(true);
}

Parameter parameter(const std::string& name, at::IntArrayRef shape, at::ScalarType dtype = at::kDouble) {
  return {.name = name, .value = random(shape, dtype), .grad = {}, .requires_grad = true};
}
Linear make_linear(int64_t out, int64_t in, bool bias) {
  Linear layer;
  layer.weight = parameter("weight", {out, in});
  if (bias) layer.bias = parameter("bias", {out});
  return layer;
}

TEST(Parameter, GradientsLieInOneAlignedBuffer) {
  Parameter a = parameter("a", {3, 5}, at::kBFloat16), frozen = parameter("frozen", {100}, at::kBFloat16),
            b = parameter("b", {7}, at::kBFloat16);
  frozen.requires_grad = false;
  const at::Tensor flat = allocate_gradients({&a, &frozen, &b});
  EXPECT_EQ(flat.scalar_type(), at::kFloat);
  EXPECT_EQ(flat.numel(), 64);  // 64 bytes are 32 values of bf16
  EXPECT_FALSE(frozen.grad.defined());
  for (Parameter* p : {&a, &b}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p->grad.data_ptr()) % 64, 0U);
    EXPECT_EQ(p->grad.sizes(), p->value.sizes());
    p->accumulate(p->value);
    p->accumulate(p->value);
    EXPECT_TRUE(p->grad.equal(p->value.to(at::kFloat).mul(2)));
  }
  frozen.accumulate(frozen.value);
  EXPECT_FALSE(frozen.grad.defined());
  EXPECT_TRUE(flat.slice(0, 15, 16).eq(0).all().item<bool>());
  EXPECT_TRUE(flat.slice(0, 32, 39).equal(b.grad));
}

TEST(Parameter, ValuesMoveIntoOneBufferUnchanged) {
  Parameter a = parameter("a", {3, 5}), frozen = parameter("frozen", {100}), b = parameter("b", {7});
  frozen.requires_grad = false;
  const at::Tensor old_a = a.value.clone(), old_b = b.value.clone(), old_frozen = frozen.value;
  const at::Tensor flat = flatten_values({&a, &frozen, &b}, 7);
  EXPECT_EQ(flat.numel() % 7, 0);
  EXPECT_EQ(flat.numel(), flat_layout({&a, &frozen, &b}, 7).total);
  EXPECT_TRUE(a.value.equal(old_a));
  EXPECT_TRUE(b.value.equal(old_b));
  EXPECT_TRUE(frozen.value.is_same(old_frozen));
  flat.zero_();
  EXPECT_TRUE(a.value.eq(0).all().item<bool>());
  EXPECT_TRUE(b.value.eq(0).all().item<bool>());
}

TEST(Parameter, AMissingBufferIsNamed) {
  Parameter p = parameter("model.norm.weight", {4});
  EXPECT_THAT([&] { p.accumulate(p.value); },
              ::testing::ThrowsMessage<Error>(::testing::HasSubstr("model.norm.weight")));
}

TEST(Parameter, TwoAccumulationTypesAreRefused) {
  Parameter a = parameter("a", {2}, at::kDouble), b = parameter("b", {2}, at::kFloat);
  EXPECT_THROW(allocate_gradients({&a, &b}), Error);
}

TEST(Linear, ForwardAndGradients) {
  for (const bool bias : {false, true}) {
    Linear layer = make_linear(5, 7, bias);
    ParameterList list = {&layer.weight};
    if (bias) list.push_back(&*layer.bias);
    allocate_gradients(list);
    // A strided input and a strided gradient: neither needs to be contiguous.
    const at::Tensor x = leaf(random({3, 2, 7}).transpose(0, 1)), dy = random({3, 2, 5}).transpose(0, 1);
    const at::Tensor y = layer.forward(x);
    y.backward(dy);

    const at::Tensor x2 = leaf(x), weight = leaf(layer.weight.value);
    const at::Tensor b = bias ? leaf(layer.bias->value) : at::Tensor();
    const at::Tensor expected = at::linear(x2, weight, bias ? std::optional<at::Tensor>(b) : std::nullopt);
    expected.backward(dy);
    EXPECT_WITHIN(y, expected, kRounding);
    EXPECT_WITHIN(x.grad(), x2.grad(), kRounding);
    EXPECT_WITHIN(layer.weight.grad, weight.grad(), kRounding);
    if (bias) {
      EXPECT_WITHIN(layer.bias->grad, b.grad(), kRounding);
    }
  }
}

TEST(Linear, BeforeAndAfterWrapTheProduct) {
  Linear layer = make_linear(3, 4, false);
  const at::Tensor x = random({2, 4});
  const at::Tensor plain = layer.forward(x);
  layer.before = [](const at::Tensor& t) { return t.mul(2.0); };
  layer.after = [](const at::Tensor& t) { return t.add(1.0); };
  EXPECT_WITHIN(layer.forward(x), plain.mul(2.0).add(1.0), kRounding);
}

TEST(Linear, WrongWidthIsNamed) {
  Linear layer = make_linear(3, 4, false);
  EXPECT_THAT(
      [&] {
        layer.forward(random({2, 5}));
      },
      ::testing::ThrowsMessage<Error>(::testing::HasSubstr("weight")));
}

// 4,096 micro-batches of 2^-9 each: a bf16 buffer would stop growing at 1 (2^-9 is below half its last place
// there).
TEST(Linear, Bf16MicroBatchesAreSummedInFloat32) {
  Linear layer;
  layer.weight = parameter("weight", {1, 1}, at::kBFloat16);
  allocate_gradients({&layer.weight});
  const at::Tensor x = at::zeros({1, 1}, at::kBFloat16).fill_(1.0 / 512).set_requires_grad(true);
  for (int i = 0; i < 4096; ++i) layer.forward(x).backward(at::zeros({1, 1}, at::kBFloat16).fill_(1.0));
  EXPECT_EQ(layer.weight.grad.item<double>(), 8.0);
}

TEST(Embedding, RowsAndGradients) {
  Embedding layer{.weight = parameter("embedding", {6, 4}), .padding_idx = 2};
  allocate_gradients({&layer.weight});
  const at::Tensor ids = at::randint(0, 6, {3, 8}, at::kLong), dy = random({3, 8, 4});
  const at::Tensor y = layer.forward(ids);
  EXPECT_TRUE(y.requires_grad());
  y.backward(dy);
  const at::Tensor weight = leaf(layer.weight.value);
  const at::Tensor expected = at::embedding(weight, ids, /*padding_idx=*/2);
  expected.backward(dy);
  EXPECT_TRUE(y.equal(expected));
  EXPECT_WITHIN(layer.weight.grad, weight.grad(), kRounding);
}

TEST(Embedding, StartsAGraphUnderGradModeOnly) {
  Embedding layer{.weight = parameter("embedding", {6, 4})};
  layer.weight.requires_grad = false;
  const at::Tensor ids = at::zeros({1, 2}, at::kLong);
  const at::Tensor y = layer.forward(ids);
  EXPECT_TRUE(y.requires_grad());
  y.backward(y.detach());
  at::NoGradGuard no_grad;
  EXPECT_FALSE(layer.forward(ids).requires_grad());
  EXPECT_THROW(layer.forward(ids[0]), Error);
}

TEST(RmsNorm, ForwardAndGradients) {
  RmsNorm layer{.weight = parameter("norm", {9}), .eps = 1e-3};
  allocate_gradients({&layer.weight});
  const at::Tensor x = leaf(random({2, 3, 9})), dy = random({2, 3, 9});
  const at::Tensor y = layer.forward(x);
  y.backward(dy);
  const at::Tensor x2 = leaf(x), weight = leaf(layer.weight.value);
  const at::Tensor expected = x2.mul(x2.square().mean(-1, true).add(1e-3).rsqrt()).mul(weight);
  expected.backward(dy);
  EXPECT_WITHIN(y, expected, kRounding);
  EXPECT_WITHIN(x.grad(), x2.grad(), kRounding);
  EXPECT_WITHIN(layer.weight.grad, weight.grad(), kRounding);
}

TEST(GatedMlp, ForwardAndGradients) {
  GatedMlp mlp{.gate_proj = make_linear(7, 4, false),
               .up_proj = make_linear(7, 4, false),
               .down_proj = make_linear(4, 7, false)};
  allocate_gradients({&mlp.gate_proj.weight, &mlp.up_proj.weight, &mlp.down_proj.weight});
  const at::Tensor x = leaf(random({2, 3, 4})), dy = random({2, 3, 4});
  const at::Tensor y = mlp.forward(x);
  y.backward(dy);
  const at::Tensor x2 = leaf(x), gate = leaf(mlp.gate_proj.weight.value), up = leaf(mlp.up_proj.weight.value),
                   down = leaf(mlp.down_proj.weight.value);
  const at::Tensor expected = at::linear(at::silu(at::linear(x2, gate)).mul(at::linear(x2, up)), down);
  expected.backward(dy);
  EXPECT_WITHIN(y, expected, kRounding);
  EXPECT_WITHIN(x.grad(), x2.grad(), kRounding);
  EXPECT_WITHIN(mlp.gate_proj.weight.grad, gate.grad(), kRounding);
  EXPECT_WITHIN(mlp.up_proj.weight.grad, up.grad(), kRounding);
  EXPECT_WITHIN(mlp.down_proj.weight.grad, down.grad(), kRounding);
}

class LocalAttention : public ::testing::TestWithParam<AttentionBackend> {};

TEST_P(LocalAttention, ForwardAndGradients) {
  const AttentionCore core = local_attention(GetParam());
  const at::Tensor q = leaf(random({2, 11, 6, 8})), k = leaf(random({2, 11, 2, 8})),
                   v = leaf(random({2, 11, 2, 8}));
  const at::Tensor dout = random({2, 11, 6, 8});
  const at::Tensor out = core(q, k, v, HeadRange::all(6, 2), AttentionPattern{});
  out.backward(dout);
  const at::Tensor q2 = leaf(q), k2 = leaf(k), v2 = leaf(v);
  const at::Tensor expected = at::scaled_dot_product_attention(
                                  q2.transpose(1, 2), k2.repeat_interleave(3, 2).transpose(1, 2),
                                  v2.repeat_interleave(3, 2).transpose(1, 2), {}, 0.0, /*is_causal=*/true)
                                  .transpose(1, 2);
  expected.backward(dout);
  EXPECT_WITHIN(out, expected, kRounding);
  EXPECT_WITHIN(q.grad(), q2.grad(), kRounding);
  EXPECT_WITHIN(k.grad(), k2.grad(), kRounding);
  EXPECT_WITHIN(v.grad(), v2.grad(), kRounding);
}

// Gradients come back in the inputs' dtype although the kernel hands them out in opmath.
TEST_P(LocalAttention, Bf16GradientsAreBf16) {
  const AttentionCore core = local_attention(GetParam());
  const at::Tensor q = leaf(random({1, 5, 2, 8}, at::kBFloat16)),
                   k = leaf(random({1, 5, 1, 8}, at::kBFloat16)),
                   v = leaf(random({1, 5, 1, 8}, at::kBFloat16));
  const at::Tensor out = core(q, k, v, HeadRange::all(2, 1), AttentionPattern{});
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  out.backward(random({1, 5, 2, 8}, at::kBFloat16));
  for (const at::Tensor& x : {q, k, v}) EXPECT_EQ(x.grad().scalar_type(), at::kBFloat16);
}

INSTANTIATE_TEST_SUITE_P(Backends, LocalAttention,
                         ::testing::Values(AttentionBackend::kAuto, AttentionBackend::kNaive,
                                           AttentionBackend::kAten));

TEST(Attention, WithoutACoreIsNamed) {
  Attention layer;
  layer.q_proj.weight.name = "model.layers.3.self_attn.q_proj.weight";
  EXPECT_THAT(
      [&] {
        layer.forward(random({1, 2, 3}), RopeTables{}, AttentionPattern{});
      },
      ::testing::ThrowsMessage<Error>(::testing::HasSubstr("model.layers.3.self_attn")));
}

struct Head {
  Parameter weight = parameter("lm_head.weight", {13, 6});
  at::Tensor hidden = leaf(random({2, 5, 6}));
  at::Tensor labels = at::randint(0, 13, {2, 5}, at::kLong);
  Head() {
    labels[1][2].fill_(-100);
    allocate_gradients({&weight});
  }
};

TEST(LinearCrossEntropy, LossAndGradients) {
  Head head;
  const at::Tensor loss = linear_cross_entropy_loss(head.hidden, head.weight, head.labels);
  ASSERT_EQ(loss.dim(), 0);
  loss.backward();
  const at::Tensor hidden = leaf(head.hidden), weight = leaf(head.weight.value);
  const at::Tensor expected = at::cross_entropy_loss(at::linear(hidden, weight).view({10, 13}),
                                                     head.labels.view({10}), {}, at::Reduction::Sum, -100);
  expected.backward();
  EXPECT_WITHIN(loss, expected, kRounding);
  EXPECT_WITHIN(head.hidden.grad(), hidden.grad(), kRounding);
  EXPECT_WITHIN(head.weight.grad, weight.grad(), kRounding);
}

TEST(LinearCrossEntropy, WithoutGradModeOnlyTheLoss) {
  Head head;
  const at::Tensor expected = linear_cross_entropy_loss(head.hidden, head.weight, head.labels).detach();
  head.weight.grad.zero_();
  at::NoGradGuard no_grad;
  const at::Tensor loss = linear_cross_entropy_loss(head.hidden, head.weight, head.labels);
  EXPECT_WITHIN(loss, expected, kRounding);
  EXPECT_FALSE(loss.requires_grad());
  EXPECT_EQ(head.weight.grad.abs().max().item<double>(), 0.0);
}

TEST(LinearCrossEntropy, AnotherSeedIsRefused) {
  Head head;
  const at::Tensor loss = linear_cross_entropy_loss(head.hidden, head.weight, head.labels).mul(0.5);
  EXPECT_THAT([&] { loss.backward(); }, ::testing::ThrowsMessage<Error>(::testing::HasSubstr("seed")));
}

TEST(LinearCrossEntropy, AFrozenHeadStillPassesGradientsOn) {
  Head head;
  head.weight.requires_grad = false;
  head.weight.grad = at::Tensor();
  linear_cross_entropy_loss(head.hidden, head.weight, head.labels).backward();
  EXPECT_GT(head.hidden.grad().abs().max().item<double>(), 0.0);
  EXPECT_FALSE(head.weight.grad.defined());
}

TEST(LinearCrossEntropy, LabelsOfAnotherShapeAreRefused) {
  Head head;
  EXPECT_THROW(linear_cross_entropy_loss(head.hidden, head.weight, head.labels.view({10})), Error);
}

}  // namespace
}  // namespace ithaca
