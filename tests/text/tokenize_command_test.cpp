#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cli/standard_output.h"
#include "cli/tokenize.h"
#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/text/tokenizer.h"

namespace ithaca {
namespace {

class TokenizeCommand : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_);
    std::filesystem::copy_file(std::filesystem::path(ITHACA_SOURCE_DIR) / "tests/golden/text/llama3.json",
                               folder_ / "tokenizer.json", std::filesystem::copy_options::overwrite_existing);
  }
  std::string output(std::vector<std::string> arguments) {
    testing::internal::CaptureStdout();
    EXPECT_EQ(run_tokenize(arguments), 0);
    std::fflush(stdout);
    return testing::internal::GetCapturedStdout();
  }
  std::string line(const std::string& text, bool special = false) {
    std::string ids;
    for (const int32_t id : Tokenizer::from_folder(folder_).encode(text, special))
      ids += (ids.empty() ? "" : " ") + std::to_string(id);
    return ids + "\n";
  }
  std::filesystem::path folder_ = std::filesystem::path(testing::TempDir()) / "ithaca_tokenize";
  std::string text_ = (folder_ / "text.txt").string();
  std::string rows_ = (folder_ / "rows.jsonl").string();
};

TEST_F(TokenizeCommand, PrintsADocumentOnOneLine) {
  write_file(text_, "the loom\nwaits\n");
  EXPECT_EQ(output({folder_, text_}), line("the loom\nwaits\n"));
  EXPECT_EQ(output({folder_, text_, "--add_special_tokens"}), line("the loom\nwaits\n", true));
  EXPECT_EQ(output({"--add-special-tokens=false", folder_, text_}), line("the loom\nwaits\n"));
}

TEST_F(TokenizeCommand, PrintsARowOfJsonlOnALine) {
  write_file(rows_, "{\"text\": \"the\\nloom\"}\n\n{\"text\": \"\"}\n{\"text\": \"x\"}");
  EXPECT_EQ(output({folder_, rows_}), line("the\nloom") + "\n" + line("x"));
}

// The rows that eval takes: keys that are not read may hold what JSON writers write.
TEST_F(TokenizeCommand, ReadsARowAsEvalDoes) {
  std::string nested = "1";
  for (int i = 0; i < 80; ++i) nested = "[" + nested + "]";
  write_file(rows_, "{\"deep\": " + nested + ", \"a\": 1, \"a\": 2, \"text\": \"the loom\"}\n \v\n");
  EXPECT_EQ(output({folder_, rows_}), line("the loom"));
}

TEST_F(TokenizeCommand, AFullDiskIsAnError) {
  write_file(text_, "the loom");
  std::fflush(stdout);
  const int kept = dup(STDOUT_FILENO);
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  dup2(full, STDOUT_FILENO);
  std::string message = "no error";
  try {
    run_tokenize({folder_, text_});
    finish_standard_output();  // as main does
  } catch (const UserError& error) {
    message = error.what();
  }
  dup2(kept, STDOUT_FILENO);
  close(kept);
  close(full);
  std::clearerr(stdout);
  EXPECT_THAT(message, testing::HasSubstr("standard output could not be written: No space left"));
}

TEST_F(TokenizeCommand, NamesWhatIsWrong) {
  write_file(rows_, "{\"text\": \"a\"}\n{\"txt\": 1}\n");
  const auto error_of = [](const std::vector<std::string>& arguments) -> std::string {
    testing::internal::CaptureStdout();
    std::string message = "no error";
    try {
      run_tokenize(arguments);
    } catch (const UserError& error) {
      message = error.what();
    }
    testing::internal::GetCapturedStdout();
    return message;
  };
  EXPECT_THAT(error_of({folder_, rows_}),
              testing::AllOf(testing::HasSubstr("rows.jsonl line 2"), testing::HasSubstr("no key \"text\"")));
  EXPECT_THAT(error_of({folder_}), testing::HasSubstr("usage: ithaca tokenize"));
  EXPECT_THAT(error_of({folder_, rows_, "--fast"}), testing::HasSubstr("unknown flag --fast"));
  EXPECT_THAT(error_of({folder_, folder_ / "none.txt"}), testing::HasSubstr("none.txt"));
}

}  // namespace
}  // namespace ithaca
