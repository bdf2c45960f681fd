// The matcher against the obvious search, and what it costs.
#include <gtest/gtest.h>

#include <random>

#include "ithaca/text/token_matcher.h"

namespace ithaca {
namespace {

using Found = std::vector<std::pair<std::size_t, int32_t>>;

Found obvious(const std::vector<std::string>& tokens, std::string_view text) {
  Found found;
  for (std::size_t at = 0; at < text.size();) {
    int32_t best = -1;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (!tokens[i].empty() && text.substr(at).starts_with(tokens[i]) &&
          (best < 0 || tokens[i].size() > tokens[best].size()))
        best = static_cast<int32_t>(i);
    if (best >= 0) found.emplace_back(at, best);
    at += best < 0 ? 1 : tokens[best].size();
  }
  return found;
}

Found matched(const std::vector<std::string>& tokens, std::string_view text) {
  Found found;
  for (const TokenMatcher::Match& match : TokenMatcher(tokens).find(text)) {
    EXPECT_EQ(match.span.end - match.span.begin, tokens[match.token].size());
    found.emplace_back(match.span.begin, match.token);
  }
  return found;
}

TEST(TokenMatcher, TakesTheLeftmostThenTheLongest) {
  EXPECT_EQ(matched({"bc", "abcd", "ab"}, "abcd abce"), (Found{{0, 1}, {5, 2}}));
  EXPECT_EQ(matched({"a", "aab"}, "aaab"), (Found{{0, 0}, {1, 1}}));
  EXPECT_EQ(matched({"", "a", "a"}, "ba"), (Found{{1, 1}}));
  EXPECT_EQ(matched({}, "abc"), Found{});
  EXPECT_EQ(matched({"a"}, ""), Found{});
}

TEST(TokenMatcher, FindsWhatTheObviousSearchFinds) {
  std::mt19937 random(7);
  const auto word = [&](std::size_t length) {
    std::string text;
    for (std::size_t i = 0; i < length; ++i) text += "ab\xFF"[random() % 3];
    return text;
  };
  for (int round = 0; round < 500; ++round) {
    std::vector<std::string> tokens;
    for (std::size_t i = random() % 8; i > 0; --i) tokens.push_back(word(random() % 6));
    const std::string text = word(random() % 60);
    ASSERT_EQ(matched(tokens, text), obvious(tokens, text)) << round;
  }
}

// A text that all but ends in a token at every place: a search that walks from each place makes length x text
// steps.
TEST(TokenMatcher, TakesOnePassHoweverLongTheTokensAre) {
  const std::string text(100'000, 'a');
  for (const std::size_t length : {std::size_t{2}, std::size_t{64}, std::size_t{4096}, std::size_t{50'000}}) {
    const std::string many(length, 'a');
    for (const auto& tokens :
         {std::vector<std::string>{many + "b"}, {"b" + many}, {"a", many + "b"}, {many, "b" + many + "b"}}) {
      std::size_t steps = 0;
      TokenMatcher(tokens).find(text, &steps);
      EXPECT_LE(steps, 2 * text.size()) << length;
    }
  }
}

TEST(TokenMatcher, TakesOnePassHoweverManyTokensThereAre) {
  std::vector<std::string> tokens;
  for (int i = 0; i < 20'000; ++i) tokens.push_back("a<" + std::to_string(i) + ">");
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "a<" + std::to_string(i) + "a";
  std::size_t steps = 0;
  EXPECT_TRUE(TokenMatcher(tokens).find(text, &steps).empty());
  EXPECT_LE(steps, 2 * text.size());
}

}  // namespace
}  // namespace ithaca
