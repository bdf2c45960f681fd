#include "ithaca/text/regex.h"

#include <gtest/gtest.h>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  RegexScratch scratch(1 << 20);
  std::vector<Span> spans;
  Regex(pattern, "test").find_all(text, scratch, spans);
  std::vector<std::string> found;
  for (const Span& span : spans) found.push_back(text.substr(span.begin, span.end - span.begin));
  return found;
}

using Texts = std::vector<std::string>;

TEST(Regex, MeansWhatOnigurumaMeans) {
  EXPECT_EQ(matches(R"(\s)", "a\u180E b\u3000"), (Texts{" ", "\u3000"}));
  EXPECT_EQ(matches(R"(\p{Han}+)", "中文。《書》"), (Texts{"中文", "書"}));
  EXPECT_EQ(matches(R"(\h+)", "x 1fA g"), (Texts{"1fA"}));
  EXPECT_EQ(matches(R"(\w+)", "e\u0301a-b_1"), (Texts{"e\u0301a", "b_1"}));
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", "12345"),
            (Texts{"12345"}));  // a repeat of a repeat, not a possessive one
  EXPECT_EQ(matches("(?m:a.b)", "a\nb"), (Texts{"a\nb"}));
  EXPECT_EQ(matches("a{,2}b", "aaab"), (Texts{"aab"}));
  EXPECT_EQ(matches("x$", "x\nx"), (Texts{"x", "x"}));  // lines, as in Ruby
  EXPECT_EQ(matches("a{b", "a{b"), (Texts{"a{b"}));
  EXPECT_EQ(matches(R"(\u4e2d)", "中"), (Texts{"中"}));
}

TEST(Regex, EmptyMatchesBehindAMatchAreSkipped) {
  EXPECT_EQ(matches("b*", "abc"), (Texts{"", "b", ""}));
}

TEST(Regex, RefusesWhatItCannotRun) {
  for (const char* pattern :
       {"[a&&b]", "[a[b]]", "(", "[a", "\\", R"(\pL)", R"(\p{Nosuch})", "(?~a)", R"([\W])"})
    EXPECT_THROW(matches(pattern, "a"), UserError) << pattern;
  EXPECT_THROW(matches(std::string(20000, 'a'), "a"), UserError);
}

TEST(Regex, HostilePatternsEndSoon) {
  EXPECT_THROW(matches("(?:a|aa)+$", std::string(5000, 'a') + "c"), UserError);
  EXPECT_THROW(matches(std::string(2000, '(') + std::string(2000, ')'), "a"), UserError);
}

}  // namespace
}  // namespace ithaca
