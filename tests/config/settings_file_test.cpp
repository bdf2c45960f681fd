// Settings files as files: encodings, marks, YAML documents, kinds of file, endings.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "ithaca/config/attention_settings.h"
#include "ithaca/config/settings.h"
#include "tests/config/tiny_config.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using namespace std::string_literals;

const std::string kMark = "\xEF\xBB\xBF";

std::vector<std::string> problems_of(const std::string& text, const std::string& name = "run.yaml") {
  Problems problems;
  resolve_settings_text(text, name, {}, problems);
  return problems.list();
}

int64_t seed_of(const std::string& text, const std::string& name = "run.yaml") {
  Problems problems;
  const ResolvedSettings resolved = resolve_settings_text(text, name, {}, problems);
  EXPECT_THAT(problems.list(), IsEmpty()) << text;
  return resolved.values.seed;
}

TEST(SettingsFile, ASecondYamlDocumentIsRefusedAtItsLine) {
  struct Case {
    std::string text, where;
  };
  for (const Case& two : std::vector<Case>{
           {"cutoff_len: 48\nmax_steps: 1\n---\nseed: 9\n", "run.yaml:3: a second YAML document"},
           {"---\ncutoff_len: 48\n---\nseed: 9\n", "run.yaml:3: a second"},
           {"cutoff_len: 48\n--- {seed: 9}\n", "run.yaml:2: a second"},
           {"cutoff_len: 48\n---\n", "run.yaml:2: a second"},
           {"cutoff_len: 48\n...\nseed: 9\n", "run.yaml:3: a second"},
           {"cutoff_len: 48\n...\n%YAML 1.2\n---\nseed: 9\n", "run.yaml:4: a second"},
           {"---\n---\nseed: 9\n", "run.yaml:2: a second"}})
    EXPECT_THAT(problems_of(two.text),
                ElementsAre(AllOf(HasSubstr(two.where), HasSubstr("files of their own"))))
        << two.text;
}

TEST(SettingsFile, TheFirstOfTwoDocumentsStillCounts) {
  Problems problems;
  EXPECT_EQ(resolve_settings_text("seed: 7\n---\nseed: 9\n", "run.yaml", {}, problems).values.seed, 7);
  EXPECT_EQ(problems.list().size(), 1u);
}

TEST(SettingsFile, OneDocumentMayHaveItsMarkers) {
  for (const char* text : {"---\nseed: 9\n", "seed: 9\n...\n", "%YAML 1.2\n---\nseed: 9\n...\n# the end\n",
                           "# first\n\n---\n# then\nseed: 9\n", "--- {seed: 9}", "seed: 9"})
    EXPECT_EQ(seed_of(text), 9) << text;
  EXPECT_EQ(seed_of("prompt: |\n  a\n  ---\n  b\nseed: 9\n"), 9) << "inside a text it is text";
}

TEST(SettingsFile, AByteOrderMarkIsNoPartOfTheFirstKey) {
  for (const std::string& mark : {kMark, kMark + kMark}) {
    EXPECT_EQ(seed_of(mark + "seed: 9\n"), 9);
    EXPECT_EQ(seed_of(mark + "---\nseed: 9\n"), 9);
    EXPECT_EQ(seed_of(mark + "{\"seed\": 9}", "run.json"), 9);
  }
}

TEST(SettingsFile, OtherEncodingsAreNamedWithTheWayRound) {
  const auto wide = [](const std::string& text) {
    std::string bytes;
    for (const char c : text) bytes += {c, '\0'};
    return bytes;
  };
  for (const auto& [name, text] : {std::pair{"run.yaml"s, "seed: 9\n"s}, {"run.json"s, "{\"seed\": 9}"s}}) {
    EXPECT_THAT(problems_of("\xFF\xFE" + wide(text), name),
                ElementsAre(AllOf(HasSubstr(name + ": is UTF-16"), HasSubstr("iconv -f UTF-16 -t UTF-8"))));
    EXPECT_THAT(problems_of(wide(text), name), ElementsAre(HasSubstr("iconv -f UTF-16LE -t UTF-8")));
  }
  EXPECT_THAT(problems_of("seed: 9\noutput_dir: caf\xE9\n"),
              ElementsAre(AllOf(HasSubstr("run.yaml:2: not UTF-8 at byte 23 (0xE9)"), HasSubstr("LATIN1"))));
}

// yaml-cpp takes the character 04 for the end of the file.
TEST(SettingsFile, ControlCharactersHideNothing) {
  for (const char c : "\0\x01\x04\x0B\x1A\x7F"s)
    EXPECT_THAT(problems_of("seed: 9\n"s + c + "\nseed: 10\n"),
                ElementsAre(HasSubstr("run.yaml:2: not valid YAML: the control character " +
                                      std::to_string(int{c}))));
  EXPECT_EQ(seed_of("# a\ttab\r\nseed: 9\r\n"), 9);
}

TEST(SettingsFile, TheEndingMayBeInAnyCase) {
  EXPECT_EQ(seed_of("{\"seed\": 9}", "RUN.JSON"), 9);
  EXPECT_THAT(problems_of("{\"seed\": 9,}", "RUN.Json"), ElementsAre(HasSubstr("not valid JSON")));
}

TEST(SettingsFile, WhatIsNoFileIsRefusedAndNeverWaitedFor) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe.yaml").c_str(), 0600), 0);
  for (const auto& [file, kind] : {std::pair{folder / "pipe.yaml", "is a pipe, not a file"},
                                   {std::filesystem::path("/dev/null"), "is a device, not a file"},
                                   {folder.path(), "is a folder, not a file"}}) {
    Problems problems;
    resolve_settings(file, {}, problems);
    EXPECT_THAT(problems.list(), ElementsAre(AllOf(HasSubstr(file.string()), HasSubstr(kind))));
  }
}

TEST(BlockMaskFile, AByteOrderMarkIsNoBlockAndAPipeIsNoFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(read_block_mask(folder.write("mask.txt", kMark + "1 0\n1 1\n")).blocks, 2);
  EXPECT_THAT([&] { read_block_mask(folder.write("wide.txt", "1\0 \0\n\0"s)); },
              testing::ThrowsMessage<UserError>(HasSubstr("iconv -f UTF-16LE")));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT([&] { read_block_mask(folder / "pipe"); },
              testing::ThrowsMessage<UserError>(HasSubstr("is a pipe")));
}

class TextFileSetting : public testing::Test {
 protected:
  void SetUp() override {
    folder_.write("model/config.json", kTinyConfig);
    folder_.write("text.txt", "some text");
  }
  std::vector<std::string> check(const std::string& train_file) {
    Problems problems;
    const ResolvedSettings settings =
        resolve_settings({},
                         {"--model_name_or_path", (folder_ / "model").string(), "--train_file", train_file,
                          "--output_dir", (folder_ / "out").string()},
                         problems);
    check_settings(settings, 1, problems, "train");
    return problems.list();
  }
  TemporaryFolder folder_;
};

TEST_F(TextFileSetting, TheEndingMayBeInAnyCase) {
  for (const char* name : {"a.JSONL", "b.Jsonl", "c.TXT", "d.txt"})
    EXPECT_THAT(check(folder_.write(name, "{\"text\": \"home\"}")), IsEmpty()) << name;
  EXPECT_THAT(check(folder_.write("e.JSON", "[]")), Contains(HasSubstr("ends in .txt")));
}

// bash's <(command) is a pipe under a name in /dev/fd.
TEST_F(TextFileSetting, APipeIsRefusedWithTheWayRound) {
  const std::string pipe = folder_ / "rows.jsonl";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(check(pipe), ElementsAre(AllOf(HasSubstr("--train_file " + pipe + ": is a pipe"),
                                             HasSubstr("COMMAND > FILE"))));
  EXPECT_THAT(check("/dev/null"), ElementsAre(HasSubstr("--train_file /dev/null: is a device")));
}

}  // namespace
}  // namespace ithaca
