#include "ithaca/text/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "ithaca/base/file.h"
#include "ithaca/text/regex.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(ITHACA_SOURCE_DIR) / "tests/golden/text";

Tokenizer golden(const std::string& name) {
  return Tokenizer::from_json(read_json_file(kGolden / (name + ".json")), name);
}

std::filesystem::path new_folder(const std::string& name) {
  const auto folder = std::filesystem::path(testing::TempDir()) / ("ithaca_text_" + name);
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

TEST(Tokenizer, InvalidUtf8BecomesReplacementCharacters) {
  const Tokenizer tokenizer = golden("gpt2");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\xFF\xE4\xB8 b\xF0\x9F\x98")), "a\uFFFD\uFFFD b\uFFFD");
  EXPECT_EQ(tokenizer.encode("\xC0\xAF"), tokenizer.encode("\uFFFD\uFFFD"));
}

TEST(Tokenizer, ByteLevelRoundTripsAnyText) {
  std::string text;
  for (int i = 0; i < 128; ++i) text += static_cast<char>(i);
  text += "海上 e\u0301 \U0001F600";
  for (const char* name : {"gpt2", "smollm2", "llama3", "deepseek"}) {
    const Tokenizer tokenizer = golden(name);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << name;
  }
}

TEST(Tokenizer, LongRunsTakeTimeThatGrowsWithTheirLength) {
  // 2 MB as one word: quadratic merging would take hours, the test's timeout ends it.
  const Tokenizer tokenizer = golden("llama2");
  const auto ids = tokenizer.encode(std::string(2'000'000, 't'));
  EXPECT_GT(ids.size(), 1'000'000u);
  const Tokenizer bytes = golden("gpt2");
  EXPECT_GT(bytes.encode(std::string(1'000'000, 'a')).size(), 400'000u);
}

TEST(Tokenizer, MayBeUsedByThreadsAtOnce) {
  const Tokenizer tokenizer = golden("llama3");
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "the loom " + std::to_string(i);
  const auto expected = tokenizer.encode(text);
  std::vector<std::vector<int32_t>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) threads.emplace_back([&] { ids = tokenizer.encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& ids : found) EXPECT_EQ(ids, expected);
}

// In the tokenizers library an expression that matches nothing does not match an empty text.
TEST(Tokenizer, ReplaceLeavesAnEmptyTextEmpty) {
  Json json = read_json_file(kGolden / "gpt2.json");
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "x*"}}}, {"content", "a"}};
  const Tokenizer tokenizer = Tokenizer::from_json(json, "F");
  EXPECT_TRUE(tokenizer.encode("").empty());
  EXPECT_EQ(tokenizer.encode("b"), golden("gpt2").encode("aba"));
}

TEST(Unicode, ClassesAreTheLibrarysOwn) {
  // Unicode 16 in one part of the library, much older tables in others.
  EXPECT_TRUE(is_numeric(0x10D40) && is_word_character(0x10D40) && is_word_character(0x200D));
  EXPECT_FALSE(is_punctuation(0x61D) || is_punctuation(0x2E43) || is_mark(0x7FD) || is_mark(0x898));
  EXPECT_TRUE(is_punctuation('$') && is_punctuation(0x2E42) && is_mark(0x301) && is_mark(0x20DD));
  // Whitespace, whose words the library finds by one more expression, agrees with single_word.
  const Regex words(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])", "test");
  RegexScratch scratch(std::size_t{1} << 20);
  for (char32_t c = 0; c < 0x30000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(text, c);
    std::vector<Span> matches;
    words.find_all(text, scratch, matches);
    ASSERT_EQ(!matches.empty(), is_word_character(c)) << std::hex << static_cast<unsigned>(c);
  }
}

TEST(Tokenizer, FolderGivesSpecialTokensAndFingerprint) {
  const auto folder = new_folder("folder");
  const std::string tokenizer_json = read_file(kGolden / "deepseek.json", 1 << 20);
  write_file(folder / "tokenizer.json", tokenizer_json);
  const Tokenizer bare = Tokenizer::from_folder(folder);
  EXPECT_FALSE(bare.bos_id() || bare.eos_id());
  EXPECT_FALSE(bare.adds_bos());

  write_file(folder / "special_tokens_map.json", R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  write_file(folder / "tokenizer_config.json",
             R"({"eos_token": {"content": "<s>", "lstrip": false}, "bos_token": null})");
  const Tokenizer full = Tokenizer::from_folder(folder);
  EXPECT_EQ(full.bos_id(), full.token_to_id("<s>"));
  EXPECT_EQ(full.eos_id(), full.token_to_id("</s>"));
  EXPECT_TRUE(full.adds_bos());
  EXPECT_EQ(full.encode("the", true).front(), *full.bos_id());
  EXPECT_NE(full.fingerprint(), bare.fingerprint());
  EXPECT_EQ(full.fingerprint(), Tokenizer::from_folder(folder).fingerprint());
  EXPECT_EQ(full.fingerprint().size(), 64u);
  EXPECT_EQ(full.vocab_size(), 332);
}

}  // namespace
}  // namespace ithaca
