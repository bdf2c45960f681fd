#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <mutex>
#include <random>

#include "ithaca/base/error.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/eval/generate.h"
#include "ithaca/eval/perplexity.h"
#include "ithaca/parallel/apply.h"
#include "tests/parity/tiny_model.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;
using parity::make_model;

std::unique_ptr<Decoder> local_model() {
  auto decoder = make_model({.heads = {6, 2}});
  for (DecoderLayer& layer : decoder->layers)
    layer.self_attn.core = local_attention(AttentionBackend::kNaive);
  return decoder;
}

// Without a cache: the whole sequence again for each token.
std::vector<int32_t> generate_plainly(Decoder& decoder, std::vector<int64_t> ids, int64_t count) {
  c10::NoGradGuard no_grad;
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    const auto length = static_cast<int64_t>(ids.size());
    DecoderInput input;
    input.input_ids = at::tensor(ids, at::kLong).unsqueeze(0);
    input.position_ids = at::arange(length, at::kLong).unsqueeze(0);
    const at::Tensor last = decoder.logits(decoder.hidden(input)).select(1, length - 1);
    ids.push_back(last.argmax(-1).item<int64_t>());
    tokens.push_back(static_cast<int32_t>(ids.back()));
  }
  return tokens;
}

TEST(Generate, EqualsTheRunWithoutACache) {
  auto decoder = local_model();
  for (const std::vector<int32_t>& prompt : {std::vector<int32_t>{5}, {1, 2, 3}, {22, 0, 7, 7, 9, 11, 4}}) {
    const std::vector<int32_t> expected = generate_plainly(*decoder, {prompt.begin(), prompt.end()}, 12);
    std::vector<int32_t> told;
    const std::vector<int32_t> got = generate_greedy(
        *decoder, prompt,
        {.max_new_tokens = 12, .eos_token_ids = {}, .on_token = [&](int32_t id) { told.push_back(id); }});
    EXPECT_EQ(got, expected);
    EXPECT_EQ(told, expected);
  }
}

// Whenever the cache grows, the tokens are the same: a row's neighbours in memory do not matter.
TEST(Generate, TheCacheGrowsAsTokensCome) {
  auto decoder = local_model();
  const std::vector<int32_t> prompt = {1, 2, 3};
  const std::vector<int32_t> expected = generate_plainly(*decoder, {prompt.begin(), prompt.end()}, 20);
  for (const int64_t step : {1, 2, 7, 1000}) {
    GenerateOptions options = {.max_new_tokens = 20, .eos_token_ids = {}, .on_token = {}};
    options.cache_step = step;
    EXPECT_EQ(generate_greedy(*decoder, prompt, options), expected) << step;
  }
  // Room for a petabyte of rows is not asked for: the third token ends this text.
  EXPECT_EQ(
      generate_greedy(*decoder, prompt,
                      {.max_new_tokens = int64_t{1} << 40, .eos_token_ids = {expected[2]}, .on_token = {}})
          .size(),
      static_cast<std::size_t>(std::ranges::find(expected, expected[2]) - expected.begin()) + 1);
}

TEST(Generate, FollowsTheRulesOfTheFolder) {
  auto decoder = local_model();
  const std::vector<int32_t> prompt = {1, 2, 3};
  const std::vector<int32_t> plain = generate_plainly(*decoder, {prompt.begin(), prompt.end()}, 6);
  GenerationConfig config;
  config.suppress_tokens = {plain[0]};
  GenerateOptions options = {.max_new_tokens = 6, .eos_token_ids = {}, .on_token = {}};
  options.rules = TokenRules(config, {}, 3, 6, decoder->config.vocab_size);
  const std::vector<int32_t> ruled = generate_greedy(*decoder, prompt, options);
  EXPECT_EQ(ruled.size(), 6u);
  EXPECT_FALSE(std::ranges::count(ruled, plain[0]));
}

TEST(Generate, EndsWithEosAndPutsTheCoresBack) {
  auto decoder = local_model();
  const std::vector<int32_t> all =
      generate_greedy(*decoder, {1, 2, 3}, {.max_new_tokens = 12, .eos_token_ids = {}, .on_token = {}});
  const std::vector<int32_t> cut =
      generate_greedy(*decoder, {1, 2, 3}, {.max_new_tokens = 12, .eos_token_ids = {all[3]}, .on_token = {}});
  const auto first = std::find(all.begin(), all.end(), all[3]);
  EXPECT_EQ(cut, std::vector<int32_t>(all.begin(), first + 1));
  EXPECT_EQ(generate_plainly(*decoder, {1, 2, 3}, 2),
            (std::vector<int32_t>{all[0], all[1]}));  // the layers' own cores again
}

TEST(Generate, TakesTheBackendForThePromptAndPutsTheCoresBackWhenItFails) {
  auto decoder = local_model();
  const std::vector<int32_t> expected = generate_plainly(*decoder, {1, 2, 3}, 6);
  EXPECT_EQ(
      generate_greedy(
          *decoder, {1, 2, 3},
          {.max_new_tokens = 6, .eos_token_ids = {}, .on_token = {}, .backend = AttentionBackend::kNaive}),
      expected);
  EXPECT_THROW(
      generate_greedy(
          *decoder, {1, 2, 3},
          {.max_new_tokens = 6, .eos_token_ids = {}, .on_token = {}, .backend = AttentionBackend::kCudnn}),
      UserError);  // no GPU tensor here
  EXPECT_EQ(generate_plainly(*decoder, {1, 2, 3}, 6), expected);
}

TEST(Generate, RefusesWhatItCannotContinue) {
  auto decoder = local_model();
  EXPECT_THROW(generate_greedy(*decoder, {}, {}), UserError);
  try {
    generate_greedy(*decoder, {1, 23}, {});
    ADD_FAILURE() << "an id outside the vocabulary was accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("token id 23"));
  }
}

TEST(Evaluate, IsTheSameUnderEveryLayout) {
  const TemporaryFolder folder;
  std::mt19937 random(3);
  std::string text;
  for (int i = 0; i < 200; ++i) text += static_cast<char>('a' + random() % 20);
  const fs::path file = folder.write("text.txt", text);
  DocumentEncoder encoder;  // a token a letter
  encoder.encode = [](std::string_view bytes, const Poll&, std::vector<int32_t>& ids) {
    for (const char c : bytes) ids.push_back(c - 'a' + 1);
  };
  encoder.eos = 0;
  encoder.fingerprint = "letters";
  const Dataset data = Dataset::open({.file = file, .cutoff_len = 31, .cache_dir = {}}, encoder, 23);
  ASSERT_EQ(data.size(), 7);  // the last row is short

  EvalResult expected;
  run_thread_ranks(1, [&](Communicator& world) {
    DeviceMesh mesh(world, {});
    auto decoder = local_model();
    expected =
        evaluate(*decoder, data, mesh, {.batch_size = 1, .progress = {}, .stop_requested = {}}).value();
  });
  EXPECT_EQ(expected.labels, 201 - 7);
  EXPECT_GT(expected.eval_loss(), 0);
  EXPECT_DOUBLE_EQ(expected.perplexity(), std::exp(expected.eval_loss()));
  const std::vector<MeshDegrees> layouts = {{.ulysses = 2}, {.data = 2},
                                            {.ulysses = 3}, {.ulysses = 2, .data = 2},
                                            {.ring = 3},    {.ulysses = 2, .ring = 2}};
  for (const MeshDegrees& degrees : layouts)
    run_thread_ranks(degrees.world(), [&](Communicator& world) {
      DeviceMesh mesh(world, degrees);
      auto decoder = make_model({.heads = {6, 2}});
      apply_parallelism(*decoder, {degrees, {}, CheckpointMode::kNone}, mesh);
      int asked = 0;
      const auto never = [&] { return ++asked < 0; };
      const EvalResult got =
          evaluate(*decoder, data, mesh, {.batch_size = 2, .progress = {}, .stop_requested = never}).value();
      EXPECT_EQ(asked, (7 + 2 * degrees.data - 1) / (2 * degrees.data)) << "rounds, the same on every rank";
      EXPECT_EQ(got.labels, expected.labels);
      EXPECT_NEAR(got.loss_sum, expected.loss_sum, 1e-10 * expected.loss_sum);
      // One rank is asked to stop after a round; all give up.
      int rounds = 0;
      const auto second = [&] { return ++rounds == 2 && world.rank() == world.size() - 1; };
      EXPECT_FALSE(
          evaluate(*decoder, data, mesh, {.batch_size = 1, .progress = {}, .stop_requested = second}));
      EXPECT_EQ(rounds, 2);
    });
}

TEST(Evaluate, NoLabelIsNotANumberAndNotZero) {
  EXPECT_TRUE(std::isnan(EvalResult{}.eval_loss()));
}

}  // namespace
}  // namespace ithaca
