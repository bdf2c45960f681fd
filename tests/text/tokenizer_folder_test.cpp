// The files beside tokenizer.json, against transformers' AutoTokenizer (tools/oracles/tokenizer_folder_goldens.py).
#include "ithaca/text/tokenizer_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/text/tokenizer.h"
#include "ithaca/text/tokenizer_keys.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens = fs::path(ITHACA_SOURCE_DIR) / "tests/golden/text";

class TokenizerFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    fs::copy_file(kGoldens / "llama3.json", folder_ / "tokenizer.json");
  }
  void write(const std::string& name, const Json& json) { write_file(folder_ / name, json.dump()); }
  void write_config(const char* json) { write_file(folder_ / "tokenizer_config.json", json); }
  std::string error() {
    try {
      Tokenizer::from_folder(folder_);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }
  std::vector<std::string> remarks() { return Tokenizer::from_folder(folder_).remarks(); }

  fs::path folder_ = fs::path(testing::TempDir()) / "ithaca_tokenizer_folder";
};

std::optional<int32_t> id(const nlohmann::ordered_json& json) {
  return json.is_null() ? std::nullopt : std::optional(json.get<int32_t>());
}

TEST_F(TokenizerFolderTest, NamesTokensAsTransformersDoes) {
  // The order of keys counts.
  const auto golden = nlohmann::ordered_json::parse(read_file(kGoldens / "folders.json", 1 << 20));
  for (const auto& [name, expected] : golden["cases"].items()) {
    SCOPED_TRACE(name);
    SetUp();
    for (const auto& [file, json] : expected["files"].items()) write_file(folder_ / file, json.dump());
    if (expected.contains("error")) {
      EXPECT_THAT(error(), testing::HasSubstr("tokenizer_config.json.eos_token"));
      continue;
    }
    const Tokenizer tokenizer = Tokenizer::from_folder(folder_);
    EXPECT_EQ(tokenizer.bos_id(), id(expected["bos"]));
    EXPECT_EQ(tokenizer.eos_id(), id(expected["eos"]));
    EXPECT_EQ(tokenizer.vocab_size(), expected["size"].get<int32_t>());
    for (std::size_t i = 0; i < golden["texts"].size(); ++i) {
      const auto text = golden["texts"][i].get<std::string>();
      EXPECT_EQ(tokenizer.encode(text), expected["ids"][i].get<std::vector<int32_t>>()) << text;
      const auto ids = tokenizer.encode(text, true);
      EXPECT_EQ(ids, expected["ids_special"][i].get<std::vector<int32_t>>()) << text;
      EXPECT_EQ(tokenizer.decode(ids, true), expected["decoded_skip"][i].get<std::string>()) << text;
    }
  }
}

// Keys keep the file's order, which an object sorted by name would lose.
TEST_F(TokenizerFolderTest, TokensUnderOtherNamesComeInTheFilesOrder) {
  write_config(R"({"video_token": "<y>", "image_token": "<x>"})");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder_);
  EXPECT_EQ(tokenizer.token_to_id("<y>"), 342);
  EXPECT_EQ(tokenizer.token_to_id("<x>"), 343);
}

TEST_F(TokenizerFolderTest, NamesUnknownKeysOnce) {
  write_config(R"({"bos_token": "<s>", "shout": true, "new_key": 1})");
  Json tokenizer = read_json_file(folder_ / "tokenizer.json");
  tokenizer["model"]["magic"] = 1;
  tokenizer["pre_tokenizer"]["pretokenizers"][0]["speed"] = 2;
  tokenizer["added_tokens"][0]["colour"] = tokenizer["added_tokens"][1]["colour"] = "red";
  write("tokenizer.json", tokenizer);
  EXPECT_THAT(remarks(),
              testing::ElementsAre(
                  testing::EndsWith("tokenizer.json: not read, because unknown: model.magic, "
                                    "pre_tokenizer.Split.speed, added_tokens.colour"),
                  testing::EndsWith("tokenizer_config.json: not read, because unknown: new_key, shout")));
}

TEST_F(TokenizerFolderTest, RefusesWhatWouldChangeTextUnseen) {
  write_config(R"({"fix_mistral_regex": true})");
  EXPECT_THAT(error(), testing::HasSubstr("tokenizer_config.json: the key \"fix_mistral_regex\""));
  write_config(
      R"({"fix_mistral_regex": false, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": null})");
  EXPECT_EQ(error(), "no error");
  write_config(R"({"fast_tokenizer_files": ["tokenizer.json", "tokenizer.5.0.0.json"]})");
  EXPECT_THAT(error(), testing::HasSubstr("fast_tokenizer_files[1]: expected tokenizer.json alone"));
}

TEST_F(TokenizerFolderTest, NamesContradictions) {
  Json tokenizer = read_json_file(folder_ / "tokenizer.json");
  tokenizer["post_processor"] = nullptr;
  write("tokenizer.json", tokenizer);
  write_config(R"({"tokenizer_class": "Qwen2TokenizerFast", "add_bos_token": true, "bos_token": "<s>"})");
  EXPECT_THAT(remarks(),
              testing::ElementsAre(testing::HasSubstr("the rules of tokenizer_class Qwen2Tokenizer"),
                                   testing::HasSubstr("add_bos_token is true")));
  fs::copy_file(kGoldens / "qwen.json", folder_ / "tokenizer.json", fs::copy_options::overwrite_existing);
  write_config(R"({"tokenizer_class": "Qwen2TokenizerFast"})");
  EXPECT_THAT(remarks(), testing::IsEmpty());
}

TEST_F(TokenizerFolderTest, NamesThePlaceOfWhatIsWrong) {
  const std::vector<std::array<const char*, 3>> cases{
      {"tokenizer_config.json", R"([])", "tokenizer_config.json: expected an object"},
      {"tokenizer_config.json", R"({"bos_token": {"text": "x"}})",
       "bos_token: the key \"content\" is missing"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": "a"}})", "expected a number as its key"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"7": 1}})",
       "added_tokens_decoder.7: expected a string"},
      {"tokenizer_config.json", R"({"extra_special_tokens": "x"})",
       "extra_special_tokens: expected an array"},
      {"tokenizer_config.json", R"({"split_special_tokens": 3})",
       "split_special_tokens: expected true or false"},
      {"special_tokens_map.json", R"({"pad_token": 3})",
       "special_tokens_map.json.pad_token: expected a string"},
      {"added_tokens.json", R"({"<x>": "a"})", "added_tokens.json[\"<x>\"]: expected an integer"},
      {"added_tokens.json", R"({"<x>": -1})", "added_tokens.json[\"<x>\"]: expected an integer"}};
  for (const auto& [file, text, expected] : cases) {
    SetUp();
    write_file(folder_ / file, text);
    EXPECT_THAT(error(), testing::HasSubstr(expected)) << text;
  }
}

TEST_F(TokenizerFolderTest, EveryFileIsPartOfTheFingerprint) {
  std::set<std::string> seen{Tokenizer::from_folder(folder_).fingerprint()};
  for (const char* name : {"special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"}) {
    write_file(folder_ / name, "{}");
    EXPECT_TRUE(seen.insert(Tokenizer::from_folder(folder_).fingerprint()).second) << name;
  }
}

TEST(TokenizerKeys, TheTableInDocsIsTheProgramsOwn) {
  EXPECT_EQ(read_file(fs::path(ITHACA_SOURCE_DIR) / "docs/tokenizers.md", 1 << 20), tokenizer_keys_markdown())
      << "write it again: ithaca help tokenizers > docs/tokenizers.md";
}

}  // namespace
}  // namespace ithaca
