// Tiny random Llama models against transformers in float32: logits, loss, every gradient and ten training
// losses within 1e-5.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/models/golden.h"

namespace ithaca::testing {
namespace {

constexpr double kTolerance = 1e-5;
constexpr double kLearningRate = 0.1;  // of llama_goldens.py

const std::vector<std::string> kCases = {
    "gqa_untied",       "gqa_tied",           "biases",      "packed",          "rope_linear",
    "rope_dynamic",     "rope_dynamic_short", "rope_llama3", "rope_llama3_old", "rope_yarn",
    "rope_yarn_mscale", "rope_yarn_factor"};

class GoldenModel : public ::testing::TestWithParam<std::string> {};

// One step on batch `step`: gradients of the mean loss in the buffers, the mean loss returned.
double loss_and_gradients(Decoder& decoder, const Golden& golden, int64_t step, at::Tensor& gradients) {
  const at::Tensor labels = golden.labels(step);
  const auto count = static_cast<double>(labels.ge(0).sum().item<int64_t>());
  gradients.zero_();
  const at::Tensor loss = decoder.loss_sum(golden.input(step), labels);
  loss.backward();
  gradients.div_(count);
  return loss.item<double>() / count;
}

TEST_P(GoldenModel, LogitsLossAndEveryGradient) {
  const Golden golden = read_golden(GetParam());
  auto decoder = golden.decoder(at::kFloat);
  const ParameterList parameters = decoder->parameters();
  {
    at::NoGradGuard no_grad;
    EXPECT_WITHIN(decoder->logits(decoder->hidden(golden.input(0))), golden.at("logits"), kTolerance);
  }
  at::Tensor gradients = allocate_gradients(parameters);
  EXPECT_NEAR(loss_and_gradients(*decoder, golden, 0, gradients), golden.at("losses")[0].item<double>(),
              kTolerance);
  size_t golden_gradients = 0;
  for (const auto& [name, tensor] : golden.tensors) golden_gradients += name.starts_with("grad/") ? 1 : 0;
  EXPECT_EQ(parameters.size(), golden_gradients);
  for (const Parameter* parameter : parameters) {
    SCOPED_TRACE(parameter->name);
    EXPECT_WITHIN(parameter->grad, golden.at("grad/" + parameter->name), kTolerance);
  }
}

TEST_P(GoldenModel, TenTrainingLosses) {
  const Golden golden = read_golden(GetParam());
  auto decoder = golden.decoder(at::kFloat);
  const ParameterList parameters = decoder->parameters();
  at::Tensor gradients = allocate_gradients(parameters);
  const at::Tensor& losses = golden.at("losses");
  ASSERT_EQ(losses.numel(), 10);
  for (int64_t step = 0; step < losses.numel(); ++step) {
    const double loss = loss_and_gradients(*decoder, golden, step, gradients);
    const double expected = losses[step].item<double>();
    EXPECT_NEAR(loss, expected, kTolerance * std::max(1.0, expected)) << "step " << step;
    for (Parameter* parameter : parameters) parameter->value.sub_(parameter->grad, kLearningRate);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModel, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param; });

TEST(GoldenFolder, EveryCaseIsTested) {
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder()))
    found.insert(entry.path().filename().string());
  EXPECT_EQ(found, std::set<std::string>(kCases.begin(), kCases.end()));
}

}  // namespace
}  // namespace ithaca::testing
