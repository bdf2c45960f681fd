#include "ithaca/config/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "tests/config/tiny_config.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Optional;

GenerationConfig parse(const char* text) {
  return parse_generation_config(Json::parse(text), "generation_config.json");
}

TEST(GenerationConfigTest, EndTokens) {
  EXPECT_THAT(parse(R"({"eos_token_id": [1, 249]})").eos_token_ids, Optional(ElementsAre(1, 249)));
  EXPECT_THAT(parse(R"({"eos_token_id": 7})").eos_token_ids, Optional(ElementsAre(7)));
  EXPECT_THAT(parse(R"({"eos_token_id": -1})").eos_token_ids, Optional(IsEmpty())) << "named, and never met";
  EXPECT_FALSE(parse("{}").eos_token_ids.has_value());
  EXPECT_FALSE(parse(R"({"eos_token_id": null})").eos_token_ids.has_value());
}

TEST(GenerationConfigTest, WhatChangesGreedyTextIsRead) {
  const GenerationConfig config =
      parse(R"({"max_new_tokens": 9, "max_length": 20, "min_new_tokens": 2, "min_length": 3,
    "repetition_penalty": 1.5, "no_repeat_ngram_size": 4, "suppress_tokens": [5, -1], "begin_suppress_tokens": [6],
    "bad_words_ids": [[7, 8], [9]], "forced_bos_token_id": 1, "forced_eos_token_id": [2, 3], "temperature": 0.6})");
  EXPECT_EQ(config.max_new_tokens, 9);
  EXPECT_EQ(config.max_length, 20);
  EXPECT_EQ(config.min_new_tokens, 2);
  EXPECT_EQ(config.min_length, 3);
  EXPECT_EQ(config.repetition_penalty, 1.5);
  EXPECT_EQ(config.no_repeat_ngram_size, 4);
  EXPECT_THAT(config.suppress_tokens, ElementsAre(5));
  EXPECT_THAT(config.begin_suppress_tokens, ElementsAre(6));
  EXPECT_THAT(config.bad_words_ids, ElementsAre(ElementsAre(7, 8), ElementsAre(9)));
  EXPECT_EQ(config.forced_bos_token_id, 1);
  EXPECT_THAT(config.forced_eos_token_ids, ElementsAre(2, 3));
  EXPECT_THAT(config.notes, IsEmpty());
}

TEST(GenerationConfigTest, SamplingAndUnknownKeysAreSaid) {
  EXPECT_THAT(parse(R"({"do_sample": true, "top_k": 5})").notes, ElementsAre(HasSubstr("do_sample is true")));
  EXPECT_THAT(parse(R"({"wobble": 1})").notes, ElementsAre(HasSubstr("not used: wobble")));
}

TEST(GenerationConfigTest, WhatIsNotDoneIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"num_beams": 4})", "num_beams is 4; expected 0 or 1 (beam search"},
      {R"({"guidance_scale": 1.5})", "guidance_scale"},
      {R"({"sequence_bias": [[[1], 2.0]]})", "sequence_bias"},
      {R"({"exponential_decay_length_penalty": [1, 2.0]})", "exponential_decay_length_penalty"},
      {R"({"stop_strings": ["x"]})", "stop_strings"},
      {R"({"max_time": 1})", "max_time"},
      {R"({"penalty_alpha": 0.6})", "penalty_alpha"},
      {R"({"force_words_ids": [[1]]})", "force_words_ids"},
      {R"({"token_healing": true})", "token_healing"},
      {R"({"watermarking_config": {}})", "watermarking_config"},
      {R"({"eos_token_id": "end"})", "eos_token_id is \"end\"; expected a token id"},
      {R"({"suppress_tokens": [1.5]})", "suppress_tokens is 1.5"},
      {R"({"bad_words_ids": [5]})", "bad_words_ids is 5"},
      {R"({"repetition_penalty": 0})", "repetition_penalty is 0"},
      {R"({"no_repeat_ngram_size": -1})", "no_repeat_ngram_size is -1"},
      {R"({"max_new_tokens": 0})", "max_new_tokens is 0"},
  };
  for (const auto& [text, says] : cases) {
    try {
      parse(text);
      ADD_FAILURE() << "accepted: " << text;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("generation_config.json"), HasSubstr(says))) << text;
    }
  }
  EXPECT_EQ(parse(R"({"num_beams": 1, "penalty_alpha": 0.0, "stop_strings": []})").repetition_penalty, 1);
  EXPECT_THROW(parse("[]"), UserError);
}

// As transformers: config.json's keys are read where there is no file of their own, and not beside one.
TEST(GenerationConfigTest, ConfigJsonStandsIn) {
  const TemporaryFolder folder;
  std::string text = kTinyConfig;
  text.insert(1, R"("eos_token_id": 5, "repetition_penalty": 2.0, "wobble": 1, )");
  folder.write("config.json", text);
  const GenerationConfig stands_in = read_generation_config(folder.path());
  EXPECT_THAT(stands_in.eos_token_ids, Optional(ElementsAre(5)));
  EXPECT_EQ(stands_in.repetition_penalty, 2.0);
  EXPECT_THAT(stands_in.notes, IsEmpty()) << "the model's own reader names them";
  folder.write("generation_config.json", R"({"eos_token_id": [6, 7], "x": Infinity})");
  const GenerationConfig own = read_generation_config(folder.path());
  EXPECT_THAT(own.eos_token_ids, Optional(ElementsAre(6, 7)));
  EXPECT_EQ(own.repetition_penalty, 1.0);
}

}  // namespace
}  // namespace ithaca
