// Regular expressions against what Oniguruma, in tokenizers 0.23.3, makes of the same ones
// (tools/oracles/regex_goldens.py).
#include "ithaca/text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/hash.h"
#include "ithaca/base/json.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

const Json& golden() {
  static const Json json =
      read_json_file(std::filesystem::path(ITHACA_SOURCE_DIR) / "tests/golden/text/regexes.json");
  return json;
}

std::vector<Span> spans_of(const std::string& pattern, std::string_view text) {
  RegexScratch scratch(std::size_t{1} << 30);
  std::vector<Span> spans;
  Regex(pattern, "test").find_all(text, scratch, spans);
  return spans;
}

std::string replaced(const std::string& pattern, const std::string& text) {
  std::string out;
  std::size_t end = 0;
  for (const Span& span : spans_of(pattern, text)) {
    out += text.substr(end, span.begin - end) + "<>";
    end = span.end;
  }
  return out + text.substr(end);
}

std::string error_of(const std::string& pattern) {
  try {
    spans_of(pattern, "a");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

// The members of a class, as ranges "41-5a ", over every code point.
struct Members {
  std::string ranges;
  std::int64_t count = 0;
};

std::string every_character() {
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c)
    if (c < 0xD800 || c >= 0xE000) append_utf8(text, c);
  return text;
}

Members members_of(const std::string& pattern, const std::string& text) {
  Members members;
  char32_t first = 1, last = 0;
  auto flush = [&] {
    if (first <= last) {
      char range[32];
      std::snprintf(range, sizeof range, "%x-%x ", static_cast<unsigned>(first), static_cast<unsigned>(last));
      members.ranges += range;
    }
  };
  for (const Span& run : spans_of("(?:" + pattern + ")++", text)) {
    for (std::size_t at = run.begin; at < run.end; ++members.count) {
      const char32_t c = next_code_point(text, at);
      if (first > last || c != last + 1) {
        flush();
        first = c;
      }
      last = c;
    }
  }
  flush();
  return members;
}

TEST(Regex, ClassesHoldWhatOnigurumasHold) {
  const std::string text = every_character();
  for (const Json& entry : golden()["classes"]) {
    const auto pattern = entry["pattern"].get<std::string>();
    const Members members = members_of(pattern, text);
    EXPECT_EQ(members.count, entry["count"].get<std::int64_t>()) << pattern;
    Sha256 hash;
    hash.update(members.ranges);
    EXPECT_EQ(hash.hex(), entry["sha256"].get<std::string>()) << pattern;
  }
}

TEST(Regex, MatchesWhatOnigurumaMatches) {
  for (const Json& entry : golden()["matches"])
    EXPECT_EQ(replaced(entry["pattern"], entry["text"]), entry["replaced"].get<std::string>())
        << entry["pattern"].get<std::string>();
}

TEST(Regex, RefusesWhatOnigurumaRefuses) {
  for (const Json& pattern : golden()["refused"])
    EXPECT_NE(error_of(pattern), "no error") << pattern.get<std::string>();
}

TEST(Regex, NamesWhatHasNoEqual) {
  const std::vector<std::pair<const char*, const char*>> cases{{"\\X", "\\X"},
                                                               {"\\y", "\\y"},
                                                               {"(a)\\g<1>", "\\g"},
                                                               {"(?(<n>)a)", "(?("},
                                                               {"(?~ab)", "(?~"},
                                                               {"(?{x})a", "(?{"},
                                                               {"(*FAIL)", "(*"},
                                                               {"(a)\\k<1+1>", "level"},
                                                               {"(?W)\\w", "(?W"},
                                                               {"(?i)(a)\\1", "(?i)"},
                                                               {"(?y{g})a", "(?y"},
                                                               {"\\M-a", "\\M-"},
                                                               {"\\x{61 62}", "\\x{"},
                                                               {"\\o{$1}", "no character"},
                                                               {"\\o{99}", "no character"},
                                                               {"\\x{110000}", "no character"},
                                                               {"(?<=a+)b", "lookbehind"},
                                                               {"\\p{Grapheme_Cluster_Break_L}", "Grapheme"},
                                                               {"a{70000}", "too big"}};
  for (const auto& [pattern, word] : cases)
    EXPECT_THAT(error_of(pattern), testing::AllOf(testing::HasSubstr("test: "), testing::HasSubstr(word)))
        << pattern;
}

TEST(Regex, HostilePatternsEndSoon) {
  const auto repeated = [](const std::string& part, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += part;
    return text;
  };
  EXPECT_THROW(spans_of("(?:a|aa)+$", std::string(5000, 'a') + "c"), UserError);
  EXPECT_NE(error_of(std::string(20000, 'a')), "no error");
  EXPECT_NE(error_of(repeated("(", 2000) + repeated(")", 2000)), "no error");
  EXPECT_NE(error_of("(?#a\\"), "no error");
  EXPECT_NE(error_of(repeated("[", 8000)), "no error");
  EXPECT_NE(error_of(repeated("[a", 8000)), "no error");
  EXPECT_NE(error_of("a" + repeated("{2}", 5000)), "no error");
  EXPECT_NE(error_of("(?i)" + repeated("[a]", 5000)), "no error");
  EXPECT_NE(error_of(repeated("\\p{Cased}", 1500)), "no error");
}

// Alternatives of a class overlap; a repeat of them must not try each character in every way.
TEST(Regex, NestedClassesDoNotBacktrackExponentially) {
  EXPECT_EQ(replaced("[\\W\\S]+x", std::string(2000, 'a') + "y"), std::string(2000, 'a') + "y");
}

}  // namespace
}  // namespace ithaca
