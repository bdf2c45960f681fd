#include "ithaca/base/text_encoding.h"

#include <gmock/gmock.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ithaca {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::string_literals;

TEST(Utf8, WellFormedTextOfEveryLengthPasses) {
  const std::string text =
      "a\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF";
  EXPECT_EQ(find_invalid_utf8(text), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("\0b"s), std::nullopt);
  for (int shift = 0; shift < 9; ++shift) {
    EXPECT_EQ(find_invalid_utf8(std::string(shift, 'x') + text), std::nullopt);
    EXPECT_EQ(find_invalid_utf8(std::string(shift, 'x') + "\xFF"), static_cast<std::size_t>(shift));
  }
}

TEST(ByteOrderMark, IsTakenFromTheStartOnly) {
  EXPECT_EQ(without_byte_order_mark("\xEF\xBB\xBFhome"), "home");
  EXPECT_EQ(without_byte_order_mark("\xEF\xBB\xBF\xEF\xBB\xBFhome"), "home");
  EXPECT_EQ(without_byte_order_mark("ho\xEF\xBB\xBFme"), "ho\xEF\xBB\xBFme");
  EXPECT_EQ(without_byte_order_mark("\xEF\xBBhome"), "\xEF\xBBhome");
  EXPECT_EQ(without_byte_order_mark(""), "");
}

// The characters of `text` in units of 2 or 4 bytes.
std::string wide(const std::u32string& text, std::size_t unit, bool little) {
  std::string bytes;
  const auto put = [&](uint32_t value) {
    for (std::size_t i = 0; i < unit; ++i)
      bytes += static_cast<char>(value >> (8 * (little ? i : unit - 1 - i)));
  };
  for (const char32_t c : text) {
    if (unit == 2 && c >= 0x10000) {
      put(0xD800 + ((c - 0x10000) >> 10));
      put(0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
      put(c);
    }
  }
  return bytes;
}

struct Wide {
  const char* name;
  std::size_t unit;
  bool little;
};

// What is said of the file, whichever of the two checks finds it.
std::string problem_of(const std::string& bytes) {
  const std::string problem = wide_encoding_problem(bytes);
  if (!problem.empty()) return problem;
  const auto bad = find_invalid_utf8(bytes);
  return bad ? not_utf8_problem(bytes, *bad) : "UTF-8";
}

TEST(WideEncoding, IsNamedWithAndWithoutAMark) {
  const std::vector<std::u32string> texts{U"home sail island",
                                          U"h",
                                          U"{\"text\": \"home sail island\"}\n",
                                          U"Домой плывёт парус.\nОстров и море, 12 дней\n",
                                          U"Ἄνδρα μοι ἔννεπε, Μοῦσα, πολύτροπον\n",
                                          U"你好,海上的船。\n第二行 12 天\n第三行没有别的\n",
                                          U"집으로 가는 배는 섬을 지난다.\n"};
  for (const Wide& form :
       {Wide{"UTF-16LE", 2, true}, {"UTF-16BE", 2, false}, {"UTF-32LE", 4, true}, {"UTF-32BE", 4, false}})
    for (const std::u32string& text : texts) {
      EXPECT_THAT(problem_of(wide(text, form.unit, form.little)),
                  AllOf(StartsWith("is "s + std::string(form.name).substr(0, 6)),
                        HasSubstr("iconv -f "s + form.name + " -t UTF-8")))
          << form.name << " " << text.size();
      EXPECT_THAT(problem_of(wide(U"\uFEFF" + text, form.unit, form.little)),
                  AllOf(StartsWith("is "s + std::string(form.name).substr(0, 6) + " (it begins with "),
                        HasSubstr("iconv -f "s + std::string(form.name).substr(0, 6) + " -t UTF-8")))
          << form.name << " " << text.size();
    }
}

TEST(WideEncoding, TextsInUtf8AreNotMistakenForIt) {
  const std::string line = "home sail island, and a long way to go from one shore to the other one\n";
  for (const std::string& text :
       {""s, "a"s, line, "\xEF\xBB\xBF" + line, "\0"s, line + "\0"s + line, "\0"s + line + line,
        "\xE4\xBD\xA0\xE5\xA5\xBD"s, "a,\0b,\0home sail island harbour night"s})
    EXPECT_EQ(problem_of(text), "UTF-8") << text;
}

TEST(NotUtf8, TheWayRoundFitsTheDamage) {
  EXPECT_THAT(not_utf8_problem("caf\xE9 au lait", 3),
              AllOf(StartsWith("not UTF-8 at byte 3 (0xE9)"), HasSubstr("iconv -f LATIN1 -t UTF-8")));
  EXPECT_THAT(not_utf8_problem("caf\xC3\xA9 caf\xE9 au lait", 9),
              AllOf(StartsWith("not UTF-8 at byte 9 (0xE9)"), HasSubstr("iconv -c -f UTF-8")));
  EXPECT_THAT(not_utf8_problem("caf\xC3", 3),
              AllOf(StartsWith("not UTF-8 at byte 3 (0xC3)"), HasSubstr("was it cut?")));
  EXPECT_THAT(not_utf8_problem("caf\xF0\x9F\x98", 3), HasSubstr("was it cut?"));
  EXPECT_THAT(not_utf8_problem("caf\x80", 3), HasSubstr("LATIN1"));
}

}  // namespace
}  // namespace ithaca
