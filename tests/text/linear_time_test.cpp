// Time of reading tokenizer.json, of encoding and of decoding: at most in proportion to file and text. Each case is run at a
// size and at 32 times that size: larger tables are slower by caches, quadratic work by 1,024.
#include <gtest/gtest.h>

#include <time.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/text/tokenizer.h"

namespace ithaca {
namespace {

Json letters() {
  Json model{{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}};
  int id = 0;
  for (char c = ' '; c < 127; ++c) model["vocab"][std::string(1, c)] = id++;
  return {{"model", model}};
}

std::string repeated(const std::string& part, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += part;
  return text;
}

struct Case {
  const char* name;
  std::size_t size;  // of the smaller run
  Json (*tokenizer)(std::size_t size);
  std::string (*text)(std::size_t size);
};

Json with_token(Json token) {
  Json json = letters();
  token["id"] = token["content"] == " " ? 0 : 95;
  json["added_tokens"] = Json::array({token});
  return json;
}

Json with_pre_tokenizer(Json node) {
  Json json = letters();
  json["pre_tokenizer"] = std::move(node);
  return json;
}

Json with_normalizer(Json node) {
  Json json = letters();
  json["normalizer"] = std::move(node);
  return json;
}

std::string no_text(std::size_t) {
  return "abc";
}
std::string all_a(std::size_t size) {
  return std::string(size, 'a');
}
std::string all_spaces(std::size_t size) {
  return std::string(size, ' ');
}
Json plain(std::size_t) {
  return letters();
}

const Case kCases[] = {
    {"a token as long as half the text", 10'000,
     [](std::size_t size) {
       return with_token({{"content", std::string(size / 2, 'a') + "b"}});
     },
     all_a},
    {"a normalized token of some length", 10'000,
     [](std::size_t size) {
       return with_token({{"content", std::string(size / 2, 'a') + "b"}, {"normalized", true}});
     },
     all_a},
    {"spaces with lstrip and rstrip", 5'000,
     [](std::size_t) {
       return with_token({{"content", " "}, {"lstrip", true}, {"rstrip", true}});
     },
     all_spaces},
    {"many added tokens", 500,
     [](std::size_t size) {
       Json json = letters();
       for (std::size_t i = 0; i < size; ++i)
         json["added_tokens"].push_back({{"id", 95 + i}, {"content", str("a<", i, ">")}, {"colour", i}});
       return json;
     },
     [](std::size_t size) { return repeated("a<1", size); }},
    {"many unknown keys", 4'000,
     [](std::size_t size) {
       Json json = letters();
       for (std::size_t i = 0; i < size; ++i) json["model"][str("k", i)] = i;
       return json;
     },
     no_text},
    {"a long chain of merges", 400,
     [](std::size_t size) {
       Json json = letters();
       std::string token = "a";
       for (std::size_t i = 0; i < size / 10; ++i) {
         json["model"]["merges"].push_back(Json::array({token, "b"}));
         token += "b";
         json["model"]["vocab"][token] = 95 + i;
       }
       return json;
     },
     [](std::size_t size) { return repeated("abbb", size); }},
    {"many Replace rules without a match", 80,
     [](std::size_t size) {
       Json list = Json::array();
       for (std::size_t i = 0; i < size; ++i)
         list.push_back({{"type", "Replace"}, {"pattern", {{"String", str("<", i, ">")}}}, {"content", ""}});
       return with_normalizer({{"type", "Sequence"}, {"normalizers", list}});
     },
     [](std::size_t) { return std::string(2'000, 'a'); }},
    {"many Split rules", 3,
     [](std::size_t size) {
       Json list = Json::array();
       for (std::size_t i = 0; i < size; ++i)
         list.push_back(
             {{"type", "Split"}, {"pattern", {{"Regex", str("<", i, ">")}}}, {"behavior", "Isolated"}});
       return with_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", list}});
     },
     no_text},
    {"spaces that the decoder strips", 5'000,
     [](std::size_t) {
       Json json = letters();
       json["decoder"] = {
           {"type", "Sequence"},
           {"decoders",
            {{{"type", "Fuse"}}, {{"type", "Strip"}, {"content", " "}, {"start", INT32_MAX}, {"stop", 0}}}}};
       return json;
     },
     all_spaces},
    {"one word", 10'000, plain, all_a},
    {"words of one letter", 10'000,
     [](std::size_t) {
       return with_pre_tokenizer(
           {{"type", "Split"}, {"pattern", {{"String", ""}}}, {"behavior", "Isolated"}});
     },
     all_a},
    {"a lookahead at every space", 4'000,
     [](std::size_t) {
       return with_pre_tokenizer(
           {{"type", "Split"}, {"pattern", {{"Regex", "\\s+(?!\\S)|\\s+"}}}, {"behavior", "Isolated"}});
     },
     [](std::size_t size) { return repeated("   a", size); }},
};

struct Timing {
  double seconds = 1e9;  // of the processor, the best of three
  std::size_t bytes = 0;
};

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Timing measure(const Case& test, std::size_t size) {
  const std::string file = test.tokenizer(size).dump();
  const std::string text = test.text(size);
  Timing result;
  result.bytes = file.size() + text.size();
  for (int i = 0; i < 3; ++i) {
    const double start = processor_seconds();
    const Tokenizer tokenizer = Tokenizer::from_json(parse_json(file, "F"), "F");
    tokenizer.decode(tokenizer.encode(text));
    result.seconds = std::min(result.seconds, processor_seconds() - start);
  }
  return result;
}

class LinearTime : public testing::TestWithParam<Case> {};

TEST_P(LinearTime, OfFileAndText) {
  const Timing small = measure(GetParam(), GetParam().size);
  const Timing large = measure(GetParam(), 32 * GetParam().size);
  const double growth = static_cast<double>(large.bytes) / static_cast<double>(small.bytes);
  // A quadratic one takes 32 times this growth; tables that no longer fit the caches up to 10 times (many added
  // tokens). What the smaller run does once only lowers the ratio; 5 ms are noise.
  EXPECT_LT(large.seconds, 20 * growth * small.seconds + 0.005)
      << small.seconds << " s, " << large.seconds << " s";
}

INSTANTIATE_TEST_SUITE_P(Files, LinearTime, testing::ValuesIn(kCases), [](const auto& info) {
  std::string name;
  for (const char c : std::string(info.param.name))
    name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

TEST(TokenizerFile, NestingIsBounded) {
  const std::string deep = repeated("{\"type\":\"Sequence\",\"normalizers\":[", 50'000);
  EXPECT_THROW(parse_json("{\"normalizer\":" + deep, "F"), UserError);
}

}  // namespace
}  // namespace ithaca
