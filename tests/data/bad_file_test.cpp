// Files from others: each mistake is named with its place.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>

#include "tests/data/fixture.h"

namespace ithaca {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

struct BadFile {
  std::string name, bytes, expected;
};

class BadInput : public DataTest, public ::testing::WithParamInterface<BadFile> {};

TEST_P(BadInput, IsNamedWithItsPlace) {
  EXPECT_THAT(refusal_of(GetParam().name, GetParam().bytes),
              AllOf(HasSubstr(GetParam().name), HasSubstr(GetParam().expected)));
}

const std::string kGood = "{\"text\": \"ok\"}\n";

INSTANTIATE_TEST_SUITE_P(
    Files, BadInput,
    ::testing::Values(
        BadFile{"a.txt", "", "is empty"}, BadFile{"a.jsonl", "", "is empty"},
        BadFile{"a.csv", "text\nhello\n", "unknown file ending \".csv\""},
        BadFile{"a", "hello", "expected .txt"}, BadFile{"a.json", "[]", "unknown file ending"},
        BadFile{"blank.jsonl", "\n  \n\t\r\n", "only blank lines"},
        BadFile{"only_marks.jsonl", "\xEF\xBB\xBF\n\xEF\xBB\xBF \n", "only blank lines"},
        BadFile{"stray.txt", "abc\x80", "not UTF-8 at byte 3 (0x80)"},
        BadFile{"latin1.txt", "caf\xE9 au lait, longer than eight bytes",
                "not UTF-8 at byte 3 (0xE9); convert it first, for instance with iconv -f LATIN1"},
        BadFile{"overlong.txt", "0123456789\xC0\xAF", "not UTF-8 at byte 10"},
        BadFile{"surrogate.txt", "\xED\xA0\x80", "not UTF-8 at byte 0"},
        BadFile{"high.txt", "a\xF4\x90\x80\x80", "not UTF-8 at byte 1"},
        BadFile{"cut.txt", "\xE4\xBD\xA0\xE5\xA5", "not UTF-8 at byte 3 (0xE5): it ends inside a character"},
        BadFile{"damaged.txt", "\xE4\xBD\xA0\xE5 au lait", "iconv -c -f UTF-8 -t UTF-8"},
        BadFile{"late.txt", std::string(9 << 20, 'x') + "\xE4\xBD\xA0\xE9!",
                "not UTF-8 at byte 9437187 (0xE9)"},
        BadFile{"syntax.jsonl", kGood + "{\"text\": \n", "line 2: not JSON"},
        BadFile{"two.jsonl", "\n" + kGood + "\n{\"text\": \"a\"} {}\n", "line 4: not JSON"},
        BadFile{"bytes.jsonl", kGood + kGood + "{\"text\": \"caf\xE9\"}\n",
                "line 3: not UTF-8 at byte 13 (0xE9); convert it first"},
        BadFile{"array.jsonl", kGood + "[\"text\"]\n", "line 2: is an array"},
        BadFile{"twice.jsonl", "{\"text\": \"a\", \"text\": \"b\"}\n",
                "line 1: has the key \"text\" 2 times"},
        BadFile{"deep.jsonl", "{\"a\": " + std::string(100000, '[') + "\n",
                "line 1: nested deeper than 1000 levels"}),
    [](const auto& info) {
      std::string name = info.param.name + "_" + std::to_string(info.index);
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

std::string refusal(const fs::path& file, const DocumentEncoder& encoder, const CorpusOptions& options = {}) {
  try {
    open_corpus(file, encoder, options);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_F(DataTest, WhatIsNoFileIsRefusedAndNeverWaitedFor) {
  EXPECT_THAT(refusal(folder_ / "none.txt", byte_encoder()), HasSubstr("none.txt: no such file"));
  EXPECT_THAT(refusal(folder_.path(), byte_encoder()), HasSubstr("is a folder"));
  ASSERT_EQ(::mkfifo((folder_ / "pipe.txt").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder_ / "pipe.txt", byte_encoder()),
              AllOf(HasSubstr("pipe.txt: is a pipe"), HasSubstr("COMMAND > FILE")));
  fs::create_symlink("/dev/null", folder_ / "device.jsonl");
  EXPECT_THAT(refusal(folder_ / "device.jsonl", byte_encoder()), HasSubstr("device.jsonl: is a device"));
}

TEST_F(DataTest, ALinkToAFileIsRead) {
  write("text", "abc");
  fs::create_symlink("text", folder_ / "link.txt");
  EXPECT_EQ(texts(open_corpus(folder_ / "link.txt", byte_encoder(), {})), std::vector<std::string>{"abc"});
}

TEST_F(DataTest, NegativeIdsAreRefused) {
  DocumentEncoder encoder = byte_encoder();
  encoder.encode = [](std::string_view, const Poll&, std::vector<int32_t>& ids) { ids.push_back(-7); };
  EXPECT_THAT(refusal(write("a.txt", "abc"), encoder), HasSubstr("negative id -7"));
}

TEST_F(DataTest, FirstBadLineIsNamedWhateverTheThreadsDo) {
  // parts of several hundred kilobytes each, so that every thread has one that is bad
  std::string lines;
  for (int i = 0; i < 500; ++i)
    lines += i == 120 || i == 130 || i == 480 ? "{}\n" : "{\"text\": \"" + std::string(8000, 'x') + "\"}\n";
  const fs::path file = write("many.jsonl", lines);
  for (int repeat = 0; repeat < 10; ++repeat)
    EXPECT_THAT(refusal(file, byte_encoder(), {.cache_dir = {}, .threads = 4}), HasSubstr("line 121:"));
}

TEST_F(DataTest, CacheFolderThatCannotBeMadeIsNamed) {
  EXPECT_THAT(refusal(write("a.txt", "abc"), byte_encoder(), {.cache_dir = write("occupied", "") / "cache"}),
              HasSubstr("cache_dir"));
}

}  // namespace
}  // namespace ithaca
