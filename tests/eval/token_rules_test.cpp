#include "ithaca/eval/token_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"

namespace ithaca {
namespace {

// A model that gives the same scores at each place.
std::vector<int32_t> generate(const GenerationConfig& config, const std::vector<int32_t>& prompt,
                              const std::vector<float>& scores) {
  const std::vector<int64_t> eos = config.eos_token_ids.value_or(std::vector<int64_t>{});
  const TokenRules rules(config, eos, static_cast<int64_t>(prompt.size()), *config.max_new_tokens,
                         static_cast<int64_t>(scores.size()));
  std::vector<int32_t> ids = prompt, tokens;
  while (static_cast<int64_t>(tokens.size()) < *config.max_new_tokens) {
    std::vector<float> row = scores;
    rules.apply(ids, row);
    const auto id = static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
    ids.push_back(id);
    tokens.push_back(id);
    if (std::ranges::count(eos, id)) break;
  }
  return tokens;
}

// Token for token what transformers 5.23.0 generates (tools/oracles/generation_goldens.py).
TEST(TokenRules, GiveTransformersTokens) {
  const Json cases = read_json_file(ITHACA_SOURCE_DIR "/tests/golden/generation/cases.json");
  ASSERT_GE(cases.size(), 200u);
  int changed = 0;
  for (const Json& one : cases) {
    const GenerationConfig config = parse_generation_config(one.at("rules"), "rules");
    const auto prompt = one.at("prompt").get<std::vector<int32_t>>();
    const auto scores = one.at("scores").get<std::vector<float>>();
    const auto expected = one.at("tokens").get<std::vector<int32_t>>();
    EXPECT_EQ(generate(config, prompt, scores), expected) << one.at("rules") << " after " << one.at("prompt");
    const std::vector<int32_t> plain(expected.size(),
                                     static_cast<int32_t>(std::ranges::max_element(scores) - scores.begin()));
    changed += expected != plain;
  }
  EXPECT_GE(changed, 70) << "cases in which the rules matter";
}

TEST(TokenRules, NoRuleAndForcedTokensOutsideTheVocabulary) {
  EXPECT_TRUE(TokenRules().empty());
  EXPECT_TRUE(TokenRules({}, {1}, 3, 5, 12).empty());
  GenerationConfig config;
  config.suppress_tokens = {5, 99};  // the latter forbids nothing
  std::vector<float> scores(12, 1.0F);
  TokenRules(config, {}, 1, 5, 12).apply(std::vector<int32_t>{0}, scores);
  EXPECT_EQ(std::ranges::count(scores, 1.0F), 11);
  config.forced_eos_token_ids = {12};
  EXPECT_THAT([&] { TokenRules(config, {}, 1, 5, 12); },
              ::testing::ThrowsMessage<UserError>(::testing::HasSubstr("forces the token 12")));
}

}  // namespace
}  // namespace ithaca
