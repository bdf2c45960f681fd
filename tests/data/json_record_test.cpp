// One member of a JSON line: what writers in use produce is read, what is none is named.
#include "ithaca/data/json_record.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "ithaca/base/text_encoding.h"

namespace ithaca {
namespace {

using ::testing::HasSubstr;
using namespace std::string_literals;

std::string read(const std::string& line) {
  const JsonRecord record(line, "text");
  return record.problem().empty() ? std::string(record.text()) : "problem: " + record.problem();
}

TEST(JsonRecord, TheTextIsWhatItsEscapesMean) {
  EXPECT_EQ(read(R"({"text": "home"})"), "home");
  EXPECT_EQ(read(R"({"text":""})"), "");
  EXPECT_EQ(read("\t {\r\"text\"\t:\n\"a\" } "), "a");
  EXPECT_EQ(read(R"({"text": "\"\\\/\b\f\n\r\t"})"), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(read(R"({"text": "caf\u00e9 \u6d77 \uD83D\uDE00 \u0000 \uFFFF"})"),
            "caf\xC3\xA9 \xE6\xB5\xB7 \xF0\x9F\x98\x80 \0 \xEF\xBF\xBF"s);
  EXPECT_EQ(read("{\"text\": \"caf\xC3\xA9\"}"), "caf\xC3\xA9");
  EXPECT_EQ(read(R"({"te\u0078t": "a", "\ud800": 1, "x\q": 2})"), "a") << "a key may be escaped, too";
  EXPECT_EQ(read(R"({"a": {"text": "no"}, "text": "yes", "b": [{"text": "no"}]})"), "yes");
}

TEST(JsonRecord, WhatIsNotReadMayBeAnythingThatWritersProduce) {
  for (const char* value : {"NaN",
                            "Infinity",
                            "-Infinity",
                            "nan",
                            "-nan",
                            "inf",
                            "-inf",
                            "1e999",
                            "-1E-999",
                            "-0",
                            "0.5e+3",
                            "123456789012345678901234567890123456789012345678901234567890",
                            R"("\ud800")",
                            R"("\udc80 \ud83d x")",
                            "\"caf\xE9\"",
                            "\"\xED\xA0\x80\"",
                            "{\"a\": 1, \"a\": 2}",
                            "[[], {}, [[1, 2], {\"b\": []}]]",
                            "[]",
                            "{ }",
                            "[1 , 2 ]",
                            "null",
                            "true",
                            "false",
                            R"("\\")",
                            R"("\"text\": 1")",
                            "[NaN, {\"x\": -Infinity}]"})
    for (const std::string& line :
         {"{\"meta\": "s + value + ", \"text\": \"home\"}", "{\"text\": \"home\", \"meta\":"s + value + "}",
          "{\"meta\": "s + value + ", \"text\": \"home\", \"meta\": 3}"})
      EXPECT_EQ(read(line), "home") << line;
}

TEST(JsonRecord, MistakesAreNamedWithTheirPlace) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "not JSON: a value is missing (byte 0"},
      {"{", "not JSON: expected a string (byte 1"},
      {R"({"text")", "expected : behind a key (byte 7"},
      {R"({"text": )", "not JSON: a value is missing (byte 9"},
      {R"({"text": "a)", "without its closing quote (byte 10"},
      {R"({"text": "a\")", "without its closing quote"},
      {R"({"text": "a\)", "without its closing quote"},
      {R"({"text": "a"} {})", "something stands behind the value (byte 14"},
      {R"({"text": "a",})", "expected a string (byte 13"},
      {R"({"text": "a" "b": 1})", "expected , or } (byte 13"},
      {R"({"a": [1, ], "text": "a"})", "expected a value (byte 10"},
      {R"({"a": [1 2], "text": "a"})", "expected , or ]"},
      {R"({"a": {"b" 1}, "text": "a"})", "expected : behind a key"},
      {R"({"a": [}, "text": "a"})", "expected a value"},
      {R"({"a": 01, "text": "a"})", "expected , or }"},
      {R"({"a": 1., "text": "a"})", "not a number"},
      {R"({"a": -, "text": "a"})", "not a number"},
      {R"({"a": 1e, "text": "a"})", "not a number"},
      {R"({"a": .5, "text": "a"})", "expected a value"},
      {R"({"a": nul, "text": "a"})", "expected a value"},
      {R"({"a": na, "text": "a"})", "expected a value"},
      {R"({'text': 'a'})", "expected a string"},
      {R"({"text": "\x"})", "an unknown escape in the text (byte 10"},
      {R"({"text": "\u12"})", "\\u without four hex digits"},
      {R"({"text": "\u12G4"})", "\\u without four hex digits"},
      {R"({"text": "ab\ud800"})", "half a surrogate pair, \\ud800, which is no character (byte 12"},
      {R"({"text": "\udc00\ud800"})", "half a surrogate pair, \\udc00"},
      {R"({"text": "\ud800\u0041"})", "half a surrogate pair, \\ud800"},
      {R"({"text": "\ud800\ud800"})", "half a surrogate pair"},
      {"{\"text\": \"a\tb\"}", "a control character in the text that is not escaped (byte 11"},
      {"{\"text\": \"caf\xE9\"}", "not UTF-8 at byte 13 (0xE9)"},
      {R"("text")", "is a string; expected an object"},
      {"[1]", "is an array; expected an object"},
      {"null", "is null; expected an object"},
      {"true", "is a boolean; expected an object"},
      {"NaN", "is a number; expected an object"},
      {"{}", "has no key \"text\" (its keys: none)"},
      {R"({"content": "a", "id": 3})", "has no key \"text\" (its keys: content, id)"},
      {R"({"a": {"text": "b"}})", "has no key \"text\""},
      {R"({"text": 3})", "has a number under \"text\"; expected a string"},
      {R"({"text": ["a"]})", "has an array under \"text\""},
      {R"({"text": {"text": "a"}})", "has an object under \"text\""},
      {R"({"text": null})", "has null under \"text\""},
      {R"({"text": "a", "text": "b"})", "has the key \"text\" 2 times"},
      {R"({"text": "a", "t\u0065xt": 1})", "has the key \"text\" 2 times"}};
  for (const auto& [line, expected] : cases)
    EXPECT_THAT(read(line), HasSubstr("problem: "s)) << line << "\n" << expected;
  for (const auto& [line, expected] : cases) EXPECT_THAT(read(line), HasSubstr(expected)) << line;
}

TEST(JsonRecord, ManyAndLongKeysMakeAShortMessage) {
  std::string line = "{";
  for (int i = 0; i < 1000; ++i) line += "\"" + std::to_string(i) + std::string(100, 'k') + "\x01\": 1, ";
  const JsonRecord record(line + "\"last\": 1}", "text");
  EXPECT_THAT(record.problem(), HasSubstr("has no key"));
  EXPECT_LT(record.problem().size(), 600u);
}

std::string nested(std::size_t depth) {
  return "{\"a\": " + std::string(depth, '[') + std::string(depth, ']') + ", \"text\": \"a\"}";
}

TEST(JsonRecord, DepthIsBounded) {
  EXPECT_EQ(read(nested(kMaxRecordDepth)), "a");
  EXPECT_THAT(read(nested(kMaxRecordDepth + 1)), HasSubstr("nested deeper than 1000 levels"));
  EXPECT_THAT(read("{\"a\": " + std::string(1000000, '[')), HasSubstr("nested deeper"));
}

// A general parser as the twin: random documents, then the same with a byte changed.
nlohmann::json random_value(std::mt19937& random, int depth) {
  static const std::vector<std::string> kTexts{
      "", "a", "\"", "\\", "\n\t", "caf\xC3\xA9", "\xF0\x9F\x98\x80", "text"};
  const auto pick = [&](unsigned n) { return random() % n; };
  switch (pick(depth > 3 ? 6 : 8)) {
    case 0:
      return nullptr;
    case 1:
      return pick(2) == 0;
    case 2:
      return static_cast<int64_t>(random()) - 2'000'000'000;
    case 3:
      return static_cast<double>(random()) / 7e5;
    case 6: {
      nlohmann::json list = nlohmann::json::array();
      for (unsigned n = pick(4); n > 0; --n) list.push_back(random_value(random, depth + 1));
      return list;
    }
    case 7: {
      nlohmann::json object = nlohmann::json::object();
      for (unsigned n = pick(4); n > 0; --n)
        object[kTexts[pick(kTexts.size())]] = random_value(random, depth + 1);
      return object;
    }
    default:
      return kTexts[pick(kTexts.size())];
  }
}

TEST(JsonRecord, AgreesWithAGeneralParserOnRandomDocuments) {
  std::mt19937 random(11);
  int read_well = 0, refused = 0;
  for (int round = 0; round < 4000; ++round) {
    nlohmann::json value = nlohmann::json::object();
    for (unsigned n = random() % 4; n > 0; --n) value["k" + std::to_string(n)] = random_value(random, 0);
    if (random() % 8 != 0) value["text"] = random_value(random, 3);
    const std::string line = value.dump(random() % 3 == 0 ? 1 : -1, ' ', random() % 2 == 0);
    const bool good = value.contains("text") && value["text"].is_string();
    if (good) {
      EXPECT_EQ(read(line), value["text"].get<std::string>()) << line;
    } else {
      EXPECT_THAT(read(line), HasSubstr("problem: ")) << line;
    }
    (good ? read_well : refused)++;
    std::string changed = line;
    changed[random() % changed.size()] = "\"\\{}[],:0x \n"[random() % 12];
    if (changed.find("\\u") != std::string::npos || !nlohmann::json::accept(changed)) continue;
    const nlohmann::json twin = nlohmann::json::parse(changed);
    if (twin.is_object() && twin.contains("text") && twin["text"].is_string() &&
        read(changed).find(" times") == std::string::npos) {
      EXPECT_EQ(read(changed), twin["text"].get<std::string>()) << changed;
    }
  }
  EXPECT_GT(read_well, 500);
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace ithaca
