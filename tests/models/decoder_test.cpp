#include "ithaca/models/decoder.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ithaca/base/error.h"
#include "tests/models/golden.h"

namespace ithaca::testing {
namespace {

double loss_without_graph(Decoder& decoder, const Golden& golden) {
  at::NoGradGuard no_grad;
  return decoder.loss_sum(golden.input(0), golden.labels(0)).item<double>();
}

at::Tensor backward(Decoder& decoder, const Golden& golden) {
  at::Tensor gradients = allocate_gradients(decoder.parameters());
  decoder.loss_sum(golden.input(0), golden.labels(0)).backward();
  return gradients;
}

// Central differences in float64 with h = 1e-5 have an error near h^2 + eps / h, about 1e-9 here; 1e-6 leaves
// room for the loss being a sum of 40 terms.
TEST(Decoder, GradientsAreThoseOfFiniteDifferences) {
  const Golden golden = read_golden("biases");
  auto decoder = golden.decoder(at::kDouble);
  const at::Tensor gradients = backward(*decoder, golden);
  const double h = 1e-5;
  for (Parameter* parameter : decoder->parameters()) {
    SCOPED_TRACE(parameter->name);
    const at::Tensor value = parameter->value.view({-1}), grad = parameter->grad.view({-1});
    const int64_t largest = grad.abs().argmax().item<int64_t>();
    for (const int64_t i : {largest, value.numel() / 2, value.numel() - 1}) {
      const double start = value[i].item<double>();
      value[i].fill_(start + h);
      const double above = loss_without_graph(*decoder, golden);
      value[i].fill_(start - h);
      const double below = loss_without_graph(*decoder, golden);
      value[i].fill_(start);
      EXPECT_NEAR((above - below) / (2 * h), grad[i].item<double>(), 1e-6) << "element " << i;
    }
  }
}

TEST(Decoder, TiedGradientIsTheSumOfBothUses) {
  const Golden golden = read_golden("packed");
  auto tied = golden.decoder(at::kDouble);
  backward(*tied, golden);

  Golden untied_case = golden;
  untied_case.config.tie_word_embeddings = false;
  untied_case.tensors["weight/lm_head.weight"] = golden.at("weight/model.embed_tokens.weight");
  auto untied = untied_case.decoder(at::kDouble);
  backward(*untied, untied_case);

  const at::Tensor &input_use = untied->embed_tokens.weight.grad, &head_use = untied->lm_head->grad;
  EXPECT_GT(input_use.abs().max().item<double>(), 1e-3);
  EXPECT_GT(head_use.abs().max().item<double>(), 1e-3);
  EXPECT_WITHIN(tied->embed_tokens.weight.grad, input_use.add(head_use), 1e-12);
}

// bf16 weights and activations keep 8 bits: losses differ by about 2^-8 a token, less in the mean; gradients
// by a few percent in RMS.
TEST(Decoder, Bf16StaysNearFloat32) {
  const Golden golden = read_golden("gqa_untied");
  auto bf16 = golden.decoder(at::kBFloat16);
  auto exact = golden.decoder(at::kDouble);
  for (Parameter* parameter : bf16->parameters()) EXPECT_EQ(parameter->value.scalar_type(), at::kBFloat16);
  const double loss = loss_without_graph(*bf16, golden), expected = loss_without_graph(*exact, golden);
  EXPECT_NEAR(loss / expected, 1.0, 0.01);
  backward(*bf16, golden);
  backward(*exact, golden);
  EXPECT_EQ(bf16->embed_tokens.weight.grad.scalar_type(), at::kFloat);
  const ParameterList rough = bf16->parameters(), fine = exact->parameters();
  for (size_t i = 0; i < rough.size(); ++i) {
    const at::Tensor difference = rough[i]->grad.to(at::kDouble).sub(fine[i]->grad);
    EXPECT_LT(difference.norm().item<double>() / fine[i]->grad.norm().item<double>(), 0.05) << rough[i]->name;
  }
}

TEST(Decoder, RunLayerWrapsEveryLayerInOrder) {
  const Golden golden = read_golden("gqa_untied");
  auto decoder = golden.decoder(at::kFloat);
  const double expected = loss_without_graph(*decoder, golden);
  std::vector<int64_t> order;
  decoder->run_layer = [&](DecoderLayer& layer, const at::Tensor& x, const LayerContext& context) {
    order.push_back(layer.index);
    return layer.forward(x, context);
  };
  EXPECT_EQ(loss_without_graph(*decoder, golden), expected);
  EXPECT_THAT(order, ::testing::ElementsAre(0, 1));
  decoder->run_layer = [](DecoderLayer&, const at::Tensor& x, const LayerContext&) { return x; };
  EXPECT_NE(loss_without_graph(*decoder, golden), expected);
}

TEST(Decoder, FrozenParametersGetNoGradientAndChangeNoOther) {
  const Golden golden = read_golden("gqa_tied");
  auto all = golden.decoder(at::kFloat), part = golden.decoder(at::kFloat);
  backward(*all, golden);
  const ParameterList list = part->parameters();
  // The tied embedding too: the graph must start all the same.
  for (const size_t i : {0, 1, 5, 8}) list[i]->requires_grad = false;
  backward(*part, golden);
  const ParameterList reference = all->parameters();
  int frozen = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    SCOPED_TRACE(list[i]->name);
    if (!list[i]->requires_grad) {
      EXPECT_FALSE(list[i]->grad.defined());
      ++frozen;
    } else {
      EXPECT_TRUE(list[i]->grad.equal(reference[i]->grad));
    }
  }
  EXPECT_EQ(frozen, 4);
}

TEST(Decoder, ABackwardWithoutBuffersNamesTheParameter) {
  const Golden golden = read_golden("gqa_untied");
  auto decoder = golden.decoder(at::kFloat);
  try {
    decoder->loss_sum(golden.input(0), golden.labels(0)).backward();
    FAIL() << "expected a failed check";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("lm_head.weight"));
  }
}

TEST(Decoder, AddsUpMicroBatches) {
  const Golden golden = read_golden("gqa_tied");
  auto decoder = golden.decoder(at::kDouble);
  const at::Tensor once = backward(*decoder, golden).clone();
  const at::Tensor twice = backward(*decoder, golden);
  decoder->loss_sum(golden.input(0), golden.labels(0)).backward();
  EXPECT_WITHIN(twice, once.mul(2), 1e-12);
}

TEST(Decoder, RowsWithoutLabelsGiveZeros) {
  const Golden golden = read_golden("gqa_tied");
  auto decoder = golden.decoder(at::kFloat);
  const at::Tensor gradients = allocate_gradients(decoder->parameters());
  const at::Tensor loss = decoder->loss_sum(golden.input(0), golden.labels(0).clone().fill_(-100));
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0.0);
  EXPECT_EQ(gradients.abs().max().item<double>(), 0.0);
}

// A layer sees only shapes: the dynamic base follows the length handed in, not the rows at hand.
TEST(Decoder, SequenceLengthIsTheGlobalOne) {
  const Golden golden = read_golden("rope_dynamic");
  auto decoder = golden.decoder(at::kFloat);
  at::NoGradGuard no_grad;
  DecoderInput whole = golden.input(0);
  const at::Tensor expected = decoder->hidden(whole).slice(1, 0, 10);
  DecoderInput head = whole;
  head.input_ids = whole.input_ids.slice(1, 0, 10);
  head.position_ids = whole.position_ids.slice(1, 0, 10);
  head.sequence_length = whole.input_ids.size(1);
  EXPECT_WITHIN(decoder->hidden(head), expected, 1e-5);
  head.sequence_length = 0;
  EXPECT_GT(decoder->hidden(head).sub(expected).abs().max().item<double>(), 1e-3);
}

TEST(Registry, NamesAreThoseOfHuggingFaceInItsOrder) {
  const Golden golden = read_golden("biases");
  auto decoder = golden.decoder(at::kFloat);
  std::vector<std::string> names;
  for (const Parameter* parameter : decoder->parameters()) names.push_back(parameter->name);
  ASSERT_EQ(names.size(), 1 + 2 * 16 + 2);
  EXPECT_EQ(names[0], "model.embed_tokens.weight");
  const std::vector<std::string> layer = {"self_attn.q_proj.weight", "self_attn.q_proj.bias",
                                          "self_attn.k_proj.weight", "self_attn.k_proj.bias",
                                          "self_attn.v_proj.weight", "self_attn.v_proj.bias",
                                          "self_attn.o_proj.weight", "self_attn.o_proj.bias",
                                          "mlp.gate_proj.weight",    "mlp.gate_proj.bias",
                                          "mlp.up_proj.weight",      "mlp.up_proj.bias",
                                          "mlp.down_proj.weight",    "mlp.down_proj.bias",
                                          "input_layernorm.weight",  "post_attention_layernorm.weight"};
  for (size_t i = 0; i < layer.size(); ++i) EXPECT_EQ(names[17 + i], "model.layers.1." + layer[i]);
  EXPECT_EQ(names[33], "model.norm.weight");
  EXPECT_EQ(names[34], "lm_head.weight");
}

TEST(Registry, CountsAsTheConfigSays) {
  for (const char* name : {"gqa_untied", "gqa_tied", "biases"}) {
    const Golden golden = read_golden(name);
    auto decoder = build_decoder(golden.config, at::kFloat);
    int64_t count = 0;
    for (const Parameter* parameter : decoder->parameters()) {
      count += parameter->value.numel();
      EXPECT_EQ(reinterpret_cast<uintptr_t>(parameter->value.data_ptr()) % 64, 0U) << parameter->name;
    }
    EXPECT_EQ(count, count_parameters(golden.config)) << name;
  }
}

TEST(Registry, UnknownArchitecturesAreRefusedByName) {
  ModelConfig config = read_golden("gqa_untied").config;
  config.architecture = "ElmanForCausalLM";
  try {
    build_decoder(config, at::kFloat);
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("ElmanForCausalLM"),
                                               ::testing::HasSubstr("LlamaForCausalLM")));
  }
}

TEST(InitializeWeights, DrawsFromTheSeedAlone) {
  const Golden golden = read_golden("biases");
  auto a = golden.decoder(at::kFloat), b = golden.decoder(at::kFloat), c = golden.decoder(at::kFloat);
  initialize_weights(*a, 7);
  initialize_weights(*b, 7);
  initialize_weights(*c, 8);
  const ParameterList left = a->parameters(), right = b->parameters();
  for (size_t i = 0; i < left.size(); ++i)
    EXPECT_TRUE(left[i]->value.equal(right[i]->value)) << left[i]->name;
  EXPECT_FALSE(left[0]->value.equal(c->parameters()[0]->value));
  EXPECT_NEAR(left[0]->value.std().item<double>(), golden.config.initializer_range,
              0.1 * golden.config.initializer_range);
  EXPECT_NEAR(left[0]->value.mean().item<double>(), 0.0, 0.1 * golden.config.initializer_range);
  EXPECT_EQ(a->layers[1].self_attn.q_proj.bias->value.abs().max().item<double>(), 0.0);
  EXPECT_EQ(a->norm.weight.value.sub(1).abs().max().item<double>(), 0.0);
}

TEST(InitializeWeights, ThePaddingTokenStartsAtZero) {
  const Golden golden = read_golden("gqa_tied");
  auto decoder = golden.decoder(at::kFloat);
  initialize_weights(*decoder, 1);
  ASSERT_EQ(decoder->embed_tokens.padding_idx, 7);
  EXPECT_EQ(decoder->embed_tokens.weight.value[7].abs().max().item<double>(), 0.0);
  EXPECT_GT(decoder->embed_tokens.weight.value[8].abs().max().item<double>(), 0.0);
}

}  // namespace
}  // namespace ithaca::testing
