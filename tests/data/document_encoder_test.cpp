// A tokenizer's part in a stop: a text of many megabytes is one document, and one call.
#include <gtest/gtest.h>

#include "ithaca/base/file.h"
#include "ithaca/data/dataset.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

class DocumentEncoderTest : public DataTest {
 protected:
  Tokenizer tokenizer(const std::string& name, const std::string& eos) {
    const std::filesystem::path golden = std::filesystem::path(ITHACA_SOURCE_DIR) / "tests/golden/text";
    write("tokenizer.json", read_file(golden / (name + ".json"), std::size_t{64} << 20));
    write("tokenizer_config.json", "{\"eos_token\": \"" + eos + "\"}");
    return Tokenizer::from_folder(folder_.path());
  }
};

TEST_F(DocumentEncoderTest, ALongTextIsGivenUpWhenAStopIsAskedFor) {
  std::string text;
  while (text.size() < 4 << 20)
    text += "home sail island " + std::to_string(text.size()) + ", the 12th day\n";
  // words by a regular expression; the whole text as one word
  for (const char* name : {"gpt2", "llama2"}) {
    const Tokenizer made = tokenizer(name, "a");
    const DocumentEncoder encoder = document_encoder(made);
    int polls = 0;
    std::vector<int32_t> ids{7}, again{7};
    encoder.encode(
        text, [&] { ++polls; }, ids);
    EXPECT_GT(polls, 100) << name << ": at 1 MB/s forty of them a second";
    EXPECT_EQ(ids.front(), 7) << "appended";
    int left = polls / 2;
    const Poll stop = [&] {
      if (--left == 0) throw Stopped("now");
    };
    EXPECT_THROW(encoder.encode(text, stop, again), Stopped) << name;
    again = {7};
    encoder.encode(
        text, [] {}, again);
    EXPECT_EQ(again, ids) << name << ": nothing of the one that was given up is left";
  }
}

TEST_F(DocumentEncoderTest, ATokenizerWithoutEosIsRefused) {
  EXPECT_THROW(document_encoder(tokenizer("gpt2", "")), UserError);
}

}  // namespace
}  // namespace ithaca
