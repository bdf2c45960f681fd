// Broken and hostile tokenizer files: a UserError that names the place, never a crash or a hang.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/text/tokenizer.h"

namespace ithaca {
namespace {

Json minimal() {
  return Json::parse(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

std::string error_of(const Json& json) {
  try {
    Tokenizer::from_json(json, "F");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

struct BadFile {
  const char* pointer;   // which value of the minimal file is replaced
  const char* value;     // by this JSON
  const char* expected;  // part of the message
};

class BadTokenizer : public testing::TestWithParam<BadFile> {};

TEST_P(BadTokenizer, IsRefusedByName) {
  Json json = minimal();
  json[Json::json_pointer(GetParam().pointer)] = Json::parse(GetParam().value);
  EXPECT_THAT(error_of(json), testing::HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadTokenizer,
    testing::Values(
        BadFile{"/model", "null", "F.model: expected an object"},
        BadFile{"/model", "[]", "F.model: expected an object"},
        BadFile{"/model/type", "\"Unigram\"", "\"Unigram\" is not supported (supported: BPE"},
        BadFile{"/model/type", "\"WordPiece\"", "\"WordPiece\" is not supported"},
        BadFile{"/model/type", "3", "F.model.type: expected a string"},
        BadFile{"/model/dropout", "0.1", "F.model.dropout"},
        BadFile{"/model/vocab", "[]", "F.model.vocab: expected an object"},
        BadFile{"/model/vocab/a", "-1", "expected an integer from 0"},
        BadFile{"/model/vocab/a", "1e9", "expected an integer from 0"},
        BadFile{"/model/vocab/a", "99999999999999999999", "expected an integer"},
        BadFile{"/model/vocab/a", "18446744073709551615", "expected an integer"},
        BadFile{"/model/vocab/a", "2000000000", "expected an integer from 0"},
        BadFile{"/model/vocab/a", "1", "the id 1 belongs to two tokens"},
        BadFile{"/model/merges", "{}", "F.model.merges: expected an array"},
        BadFile{"/model/merges/0", "\"ab\"", "F.model.merges[0]: expected two tokens"},
        BadFile{"/model/merges/0", "\"a b c\"", "F.model.merges[0]: expected two tokens"},
        BadFile{"/model/merges/0", "[\"a\"]", "F.model.merges[0]: expected"},
        BadFile{"/model/merges/0", "\"b a\"", "the token \"ba\" is not in the vocabulary"},
        BadFile{"/model/merges/0", "[\"a\", \"c\"]", "the token \"c\" is not in the vocabulary"},
        BadFile{"/model/unk_token", "3", "F.model.unk_token: expected a string"},
        BadFile{"/model/fuse_unk", "1", "F.model.fuse_unk: expected true or false"},
        BadFile{"/normalizer", "{\"type\": \"Precompiled\"}",
                "\"Precompiled\" is not supported (supported: NFC"},
        BadFile{"/normalizer", "{}", "F.normalizer: the key \"type\" is missing"},
        BadFile{"/normalizer", "{\"type\": \"Replace\", \"pattern\": {}, \"content\": \"\"}",
                "expected {\"String\""},
        BadFile{"/pre_tokenizer", "{\"type\": \"UnicodeScripts\"}", "\"UnicodeScripts\" is not supported"},
        BadFile{"/pre_tokenizer", "{\"type\": \"Sequence\"}", "F.pre_tokenizer: the key \"pretokenizers\""},
        BadFile{"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})",
                "F.pre_tokenizer.pattern.Regex: not a regular expression"},
        BadFile{"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Odd"})",
                "expected Removed"},
        BadFile{"/pre_tokenizer", R"({"type": "Metaspace", "prepend_scheme": "last"})",
                "expected always, first or never"},
        BadFile{"/post_processor", "{\"type\": \"Magic\"}", "\"Magic\" is not supported"},
        BadFile{"/post_processor", R"({"type": "TemplateProcessing", "single": [], "special_tokens": {}})",
                "exactly once"},
        BadFile{
            "/post_processor",
            R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}], "special_tokens": {}})",
            "the template's token \"<s>\" is missing"},
        BadFile{"/decoder", "{\"type\": \"WordPiece\"}", "\"WordPiece\" is not supported"},
        BadFile{"/added_tokens", "{}", "F.added_tokens: expected an array"},
        BadFile{"/added_tokens", R"([{"content": "x"}])", "F.added_tokens[0]: the key \"id\""},
        BadFile{"/added_tokens", R"([{"content": "a", "id": 7}])", "has the id 7 here and 0 in model.vocab"},
        BadFile{"/added_tokens", R"([{"content": "x", "id": 9}])", "has the id 9; expected 3"},
        BadFile{"/added_tokens", R"([{"content": "x", "id": -2}])", "expected an integer from 0"}));

TEST(BadTokenizer, GoodFileIsTaken) {
  EXPECT_EQ(error_of(minimal()), "no error");
  EXPECT_EQ(Tokenizer::from_json(minimal(), "F").encode("abba"), (std::vector<int32_t>{2, 1, 0}));
}

TEST(BadTokenizer, MissingFolderIsNamed) {
  EXPECT_THROW(Tokenizer::from_folder("/nonexistent_folder"), UserError);
}

TEST(BadTokenizer, RulesThatDoubleTheTextAreStopped) {
  Json json = minimal();
  Json list = Json::array();
  for (int i = 0; i < 60; ++i)
    list.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}});
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", list}};
  const Tokenizer tokenizer = Tokenizer::from_json(json, "F");
  EXPECT_THROW(tokenizer.encode("aaaa"), UserError);
}

// A small file must not make long documents of short ones.
TEST(BadTokenizer, TemplatesThatRepeatManyIdsAreRefused) {
  Json json = minimal();
  Json single = Json::array({{{"Sequence", {{"id", "A"}}}}});
  for (int i = 0; i < 100; ++i) single.push_back({{"SpecialToken", {{"id", "x"}}}});
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", single},
                            {"special_tokens", {{"x", {{"ids", std::vector<int>(100, 1)}}}}}};
  EXPECT_THAT(error_of(json), testing::HasSubstr("F.post_processor.single: expected at most 4096 ids"));
}

TEST(BadTokenizer, ManyRegularExpressionsAreRefused) {
  Json json = minimal();
  Json list = Json::array();
  for (int i = 0; i < 101; ++i)
    list.push_back({{"type", "Split"}, {"pattern", {{"Regex", "\\b"}}}, {"behavior", "Isolated"}});
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", list}};
  EXPECT_THAT(error_of(json), testing::HasSubstr("F: has 101 regular expressions; at most 100"));
}

// As the tokenizers library: only a text that needs the unknown token is refused.
TEST(BadTokenizer, AnUnknownTokenWithoutAnIdIsNamedWhenATextNeedsIt) {
  for (const char* unk : {"<unk>", "", "<added>"}) {
    for (const bool fuse : {false, true}) {
      Json json = minimal();
      json["model"]["unk_token"] = unk;
      json["model"]["fuse_unk"] = fuse;
      json["added_tokens"] = {{{"id", 3}, {"content", "<added>"}, {"special", true}}};
      const Tokenizer tokenizer = Tokenizer::from_json(json, "F");
      EXPECT_EQ(tokenizer.encode("ab<added>b"), (std::vector<int32_t>{2, 3, 1}));
      try {
        tokenizer.encode("axb");
        ADD_FAILURE() << "taken";
      } catch (const UserError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr(str("model.unk_token, \"", unk, "\"")));
      }
    }
  }
}

TEST(BadTokenizer, UnknownIdsDecodeToNothing) {
  const Tokenizer tokenizer = Tokenizer::from_json(minimal(), "F");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{0, -1, 99, 1}), "a b");
}

}  // namespace
}  // namespace ithaca
