// Files from others: each mistake is named with its place.
#include <gmock/gmock.h>

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/data/document_reader.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

using ::testing::HasSubstr;

struct BadFile {
  std::string name, bytes, expected;
};

class BadInput : public DataTest, public ::testing::WithParamInterface<BadFile> {};

TEST_P(BadInput, IsNamedWithItsPlace) {
  DatasetOptions options;
  options.file = write(GetParam().name, GetParam().bytes);
  try {
    Dataset::open(options, byte_encoder(), kVocabulary);
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr(GetParam().name));
    EXPECT_THAT(error.what(), HasSubstr(GetParam().expected));
  }
}

const std::string kGood = "{\"text\": \"ok\"}\n";

INSTANTIATE_TEST_SUITE_P(
    Files, BadInput,
    ::testing::Values(
        BadFile{"a.txt", "", "is empty"}, BadFile{"a.jsonl", "", "is empty"},
        BadFile{"a.csv", "text\nhello\n", "unknown file ending \".csv\""},
        BadFile{"a", "hello", "expected .txt"}, BadFile{"a.json", "[]", "unknown file ending"},
        BadFile{"blank.jsonl", "\n  \n\t\r\n", "only blank lines"},
        BadFile{"stray.txt", "abc\x80", "not UTF-8 at byte 3 (0x80)"},
        BadFile{"latin1.txt", "caf\xE9 au lait, longer than eight bytes", "not UTF-8 at byte 3 (0xE9)"},
        BadFile{"overlong.txt", "0123456789\xC0\xAF", "not UTF-8 at byte 10"},
        BadFile{"surrogate.txt", "\xED\xA0\x80", "not UTF-8 at byte 0"},
        BadFile{"high.txt", "a\xF4\x90\x80\x80", "not UTF-8 at byte 1"},
        BadFile{"cut.txt", "\xE4\xBD\xA0\xE5\xA5", "not UTF-8 at byte 3"},
        BadFile{"syntax.jsonl", kGood + "{\"text\": \n", "line 2: not JSON"},
        BadFile{"two.jsonl", "\n" + kGood + "\n{\"text\": \"a\"} {}\n", "line 4: not JSON"},
        BadFile{"bytes.jsonl", kGood + kGood + "{\"text\": \"caf\xE9\"}\n", "line 3: not JSON in UTF-8"},
        BadFile{"lone.jsonl", "{\"text\": \"\\ud800\"}", "line 1: not JSON"},
        BadFile{"array.jsonl", kGood + "[\"text\"]\n", "line 2: is an array"},
        BadFile{"scalar.jsonl", "\"text\"\n", "line 1: is a string"},
        BadFile{"key.jsonl", "{\"content\": \"a\", \"id\": 3}\n",
                "line 1: has no key \"text\" (its keys: content, id)"},
        BadFile{"nested.jsonl", "{\"a\": {\"text\": \"b\"}}\n", "line 1: has no key \"text\""},
        BadFile{"number.jsonl", "{\"text\": 3}\n", "line 1: has a number under \"text\""},
        BadFile{"list.jsonl", "{\"text\": [\"a\"]}\n", "line 1: has an array under \"text\""},
        BadFile{"null.jsonl", "{\"text\": null}\n", "line 1: has null under \"text\""},
        BadFile{"twice.jsonl", "{\"text\": \"a\", \"text\": \"b\"}\n", "line 1: has the key \"text\" twice"},
        BadFile{"deep.jsonl", "{\"a\": " + std::string(100000, '[') + "\n", "line 1: not JSON"},
        BadFile{"nothing.jsonl", "{\"text\": \"\"}\n{\"text\": \"\"}\n", "every document is empty"}),
    [](const auto& info) {
      std::string name = info.param.name + "_" + std::to_string(info.index);
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

std::string refusal(const DatasetOptions& options, const DocumentEncoder& encoder, int64_t vocab_size) {
  try {
    Dataset::open(options, encoder, vocab_size);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_F(DataTest, MissingFileAndFolderAreRefused) {
  DatasetOptions options;
  options.file = folder_ / "none.txt";
  EXPECT_THAT(refusal(options, byte_encoder(), kVocabulary), HasSubstr("no such file"));
  options.file = folder_.path();
  EXPECT_THAT(refusal(options, byte_encoder(), kVocabulary), HasSubstr("is a folder"));
}

TEST_F(DataTest, AllBadOptionsAreNamedAtOnce) {
  DatasetOptions options;
  options.file = write("a.txt", "abc");
  options.cutoff_len = 1;
  options.max_samples = -1;
  options.max_tokens = -2;
  EXPECT_THAT(refusal(options, byte_encoder(), kVocabulary),
              ::testing::AllOf(HasSubstr("cutoff_len is 1"), HasSubstr("max_samples is -1"),
                               HasSubstr("max_tokens is -2")));
}

TEST_F(DataTest, IdsOutsideTheModelsVocabularyAreRefusedAlsoFromTheCache) {
  DatasetOptions options;
  options.file = write("a.txt", "az");
  options.cache_dir = folder_ / "cache";
  EXPECT_THAT(refusal(options, byte_encoder(), 'z' + 1),
              HasSubstr("gives the id 123, but the model's vocabulary has only 123"));
  EXPECT_THAT(refusal(options, byte_encoder(), 'z' + 1), HasSubstr("vocab_size"));
  EXPECT_EQ(calls(), 1);
  EXPECT_EQ(refusal(options, byte_encoder(), 'z' + 2), "accepted");
}

TEST_F(DataTest, NegativeIdsAreRefused) {
  DatasetOptions options;
  options.file = write("a.txt", "abc");
  DocumentEncoder encoder = byte_encoder();
  encoder.encode = [](std::string_view) { return std::vector<int32_t>{-7}; };
  EXPECT_THAT(refusal(options, encoder, kVocabulary), HasSubstr("negative id -7"));
}

TEST_F(DataTest, FirstBadLineIsNamedWhateverTheThreadsDo) {
  std::string lines;
  for (int i = 0; i < 500; ++i) lines += i == 120 || i == 130 || i == 480 ? "{}\n" : kGood;
  DatasetOptions options;
  options.file = write("many.jsonl", lines);
  for (int repeat = 0; repeat < 20; ++repeat)
    EXPECT_THAT(refusal(options, byte_encoder(), kVocabulary), HasSubstr("line 121:"));
}

TEST_F(DataTest, CacheFolderThatCannotBeMadeIsNamed) {
  DatasetOptions options;
  options.file = write("a.txt", "abc");
  options.cache_dir = write("occupied", "") / "cache";
  EXPECT_THAT(refusal(options, byte_encoder(), kVocabulary), HasSubstr("cache_dir"));
}

TEST(Utf8, WellFormedTextOfEveryLengthPasses) {
  const std::string text =
      "a\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF";
  EXPECT_EQ(find_invalid_utf8(text), std::nullopt);
  EXPECT_EQ(find_invalid_utf8(std::string("\0b", 2)), std::nullopt);
  for (int shift = 0; shift < 9; ++shift) {
    EXPECT_EQ(find_invalid_utf8(std::string(shift, 'x') + text), std::nullopt);
    EXPECT_EQ(find_invalid_utf8(std::string(shift, 'x') + "\xFF"), static_cast<std::size_t>(shift));
  }
}

}  // namespace
}  // namespace ithaca
