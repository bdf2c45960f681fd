// What becomes of a file's bytes: encodings, marks, lines.
#include <gmock/gmock.h>

#include "tests/data/fixture.h"

namespace ithaca {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace std::string_literals;
using Texts = std::vector<std::string>;

TEST_F(DataTest, AByteOrderMarkIsNoText) {
  const std::string mark = "\xEF\xBB\xBF";
  EXPECT_EQ(texts_of("a.txt", mark + "home sail\n"), Texts{"home sail\n"});
  EXPECT_EQ(texts_of("twice.txt", mark + mark + "home"), Texts{"home"});
  EXPECT_EQ(texts_of("inside.txt", "ho" + mark + "me"), Texts{"ho" + mark + "me"});
  EXPECT_EQ(texts_of("a.jsonl", mark + "{\"text\": \"home\"}\n{\"text\": \"sail\"}\n"),
            (Texts{"home", "sail"}));
  // two files with marks, one behind the other
  EXPECT_EQ(texts_of("joined.jsonl", mark + "{\"text\": \"home\"}\n" + mark + "{\"text\": \"sail\"}\n"),
            (Texts{"home", "sail"}));
  // a file with a mark that became a string
  EXPECT_EQ(texts_of("value.jsonl", "{\"text\": \"\\ufeffhome\"}\n{\"text\": \"" + mark + "sail\\n\"}\n"),
            (Texts{"home", "sail\n"}));
}

TEST_F(DataTest, Utf16AndUtf32AreNamedWithTheWayRound) {
  const std::string little = "h\0o\0m\0e\0 \0s\0a\0i\0l\0"s, big = "\0h\0o\0m\0e\0 \0s\0a\0i\0l"s;
  EXPECT_THAT(refusal_of("a.txt", "\xFF\xFE" + little),
              AllOf(HasSubstr("a.txt: is UTF-16"), HasSubstr("iconv -f UTF-16 -t UTF-8")));
  EXPECT_THAT(refusal_of("b.txt", "\xFE\xFF" + big), HasSubstr("iconv -f UTF-16 -t UTF-8"));
  EXPECT_THAT(refusal_of("c.txt", little), HasSubstr("iconv -f UTF-16LE -t UTF-8"));
  EXPECT_THAT(refusal_of("d.txt", big), HasSubstr("iconv -f UTF-16BE -t UTF-8"));
  EXPECT_THAT(refusal_of("e.txt", "\xFF\xFE\0\0h\0\0\0o\0\0\0"s), HasSubstr("iconv -f UTF-32 -t UTF-8"));
  std::string rows;
  for (const char c : "{\"text\": \"home\"}\n"s) rows += {c, '\0'};
  EXPECT_THAT(refusal_of("a.jsonl", "\xFF\xFE" + rows), HasSubstr("a.jsonl: is UTF-16"));
  EXPECT_THAT(refusal_of("b.jsonl", rows), HasSubstr("iconv -f UTF-16LE -t UTF-8"));
}

TEST_F(DataTest, TheEndingMayBeInAnyCase) {
  EXPECT_EQ(texts_of("UPPER.JSONL", "{\"text\": \"home\"}\n"), Texts{"home"});
  EXPECT_EQ(texts_of("Mixed.JsonL", "{\"text\": \"home\"}\n"), Texts{"home"});
  EXPECT_EQ(texts_of("Page.TXT", "home"), Texts{"home"});
}

TEST_F(DataTest, BlankLinesAndWindowsLineEndsAreNoDocuments) {
  EXPECT_EQ(texts_of("a.jsonl", "\r\n{\"text\": \"home\"}\r\n \t\n\n{\"text\": \"sail\"}"),
            (Texts{"home", "sail"}));
  EXPECT_EQ(texts_of("empty.jsonl", "{\"text\": \"\"}\n{\"text\": \"sail\"}\n"), (Texts{"", "sail"}));
}

TEST_F(DataTest, EverythingOfALargeFileArrivesInOrderWhateverTheThreads) {
  std::string lines;
  Texts expected;
  for (int i = 0; i < 3000; ++i) {
    expected.push_back(std::to_string(i) + std::string(static_cast<std::size_t>(i * 7919 % 1000), 'x'));
    lines += "{\"text\": \"" + expected.back() + "\", \"id\": NaN}\n";
  }
  ASSERT_GT(lines.size(), 1u << 20);
  const auto file = write("large.jsonl", lines);
  for (const int threads : {1, 2, 7}) {
    const Corpus corpus = open_corpus(file, byte_encoder(), {.cache_dir = {}, .threads = threads});
    EXPECT_EQ(texts(corpus), expected) << threads;
  }
}

}  // namespace
}  // namespace ithaca
