// The dataset above its corpus: what it refuses, shares and says.
#include "ithaca/data/dataset.h"

#include <gmock/gmock.h>

#include "ithaca/base/hash.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

using DatasetTest = DataTest;

std::string refusal(const DatasetOptions& options, const DocumentEncoder& encoder, int64_t vocab_size) {
  try {
    Dataset::open(options, encoder, vocab_size);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_F(DatasetTest, AllBadOptionsAreNamedAtOnce) {
  DatasetOptions options;
  options.file = write("a.txt", "abc");
  options.cutoff_len = 1;
  options.max_samples = -1;
  options.max_tokens = -2;
  EXPECT_THAT(refusal(options, byte_encoder(), kVocabulary),
              ::testing::AllOf(HasSubstr("cutoff_len is 1"), HasSubstr("max_samples is -1"),
                               HasSubstr("max_tokens is -2")));
}

TEST_F(DatasetTest, IdsOutsideTheModelsVocabularyAreRefusedAlsoFromTheCache) {
  DatasetOptions options;
  options.file = write("a.txt", "az");
  options.cache_dir = folder_ / "cache";
  EXPECT_THAT(refusal(options, byte_encoder(), 'z' + 1),
              HasSubstr("gives the id 123, but the model's vocabulary has only 123"));
  EXPECT_THAT(refusal(options, byte_encoder(), 'z' + 1), HasSubstr("vocab_size"));
  EXPECT_EQ(calls(), 1);
  EXPECT_EQ(refusal(options, byte_encoder(), 'z' + 2), "accepted");
}

TEST_F(DatasetTest, EmptyDocumentsAloneAreRefused) {
  DatasetOptions options;
  options.file = write("nothing.jsonl", "{\"text\": \"\"}\n{\"text\": \"\"}\n");
  EXPECT_THAT(refusal(options, byte_encoder(), kVocabulary), HasSubstr("every document is empty"));
}

TEST_F(DatasetTest, OptionsThatDoNotChangeTheIdsShareTheCache) {
  DatasetOptions options;
  options.file = write("a.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"de\"}\n");
  options.cache_dir = folder_ / "cache";
  options.cutoff_len = 4;
  const Dataset first = Dataset::open(options, byte_encoder(), kVocabulary);
  EXPECT_FALSE(first.from_cache());
  options.cutoff_len = 3;
  options.packing = false;
  options.max_samples = 1;
  const Dataset second = Dataset::open(options, byte_encoder(), kVocabulary);
  EXPECT_TRUE(second.from_cache());
  EXPECT_EQ(second.content_hash(), first.content_hash());
  EXPECT_EQ(second.content_hash(), sha256_of_file(options.file));
}

TEST_F(DatasetTest, TheContentHashFollowsTheBytes) {
  DatasetOptions options;
  options.file = write("a.txt", "home and sail");
  const std::string before = Dataset::open(options, byte_encoder(), kVocabulary).content_hash();
  options.file = write("a.txt", "home and oars");
  EXPECT_NE(Dataset::open(options, byte_encoder(), kVocabulary).content_hash(), before);
}

TEST_F(DatasetTest, AStopReachesTheCorpus) {
  DatasetOptions options;
  options.file = write("a.txt", "home");
  options.stop_requested = [] { return true; };
  EXPECT_THROW(Dataset::open(options, byte_encoder(), kVocabulary), Stopped);
}

// Lengths with eos: 10, 4, 1, 25, 24, 30, 1.
class Usage : public DataTest {
 protected:
  void SetUp() override {
    DataTest::SetUp();
    std::string lines;
    for (const std::size_t length : {9, 3, 0, 24, 23, 29, 0})
      lines += "{\"text\": \"" + std::string(length, 'x') + "\"}\n";
    options_.file = write("docs.jsonl", lines);
    options_.cutoff_len = 24;
    options_.packing = false;
  }
  Dataset open() { return Dataset::open(options_, byte_encoder(), kVocabulary); }
  std::string remark() { return open().usage_remark(); }

  DatasetOptions options_;
};

TEST_F(Usage, WithoutPackingWhatIsCutIsCountedAndSaid) {
  const Dataset data = open();
  EXPECT_EQ(data.usage().documents, 7);
  EXPECT_EQ(data.usage().tokens, 95);
  EXPECT_EQ(data.usage().documents_cut, 2);
  EXPECT_EQ(data.usage().tokens_unused, 7);
  EXPECT_EQ(data.usage().documents_without_labels, 2);
  EXPECT_EQ(data.usage().tokens_left_out, 0);
  EXPECT_EQ(data.num_tokens(), 88);
  EXPECT_THAT(
      data.usage_remark(),
      EndsWith("docs.jsonl: 2 documents were cut and 7 of 95 tokens are not used (cutoff_len 24 without "
               "packing); 2 documents of fewer than two tokens have nothing to predict"));
}

TEST_F(Usage, OneDocumentIsOne) {
  options_.cutoff_len = 25;
  options_.max_samples = 6;
  EXPECT_THAT(remark(),
              EndsWith("docs.jsonl: the first 6 documents and 94 of 95 tokens are taken, as max_samples or "
                       "max_eval_tokens asks; 1 document was cut and 5 of 94 tokens are not used (cutoff_len "
                       "25 without packing); 1 document of fewer than two tokens has nothing to predict"));
}

TEST_F(Usage, WithPackingEveryTokenIsUsedAndSplitDocumentsAreSaid) {
  options_.packing = true;
  const Dataset data = open();  // rows end at 24, 48 and 72; documents at 10, 14, 15, 40, 64, 94, 95
  EXPECT_EQ(data.usage().documents_cut, 3);
  EXPECT_EQ(data.usage().tokens_unused, 0);
  EXPECT_EQ(data.num_tokens(), 95);
  EXPECT_THAT(data.usage_remark(),
              HasSubstr("docs.jsonl: 3 of 7 documents go on in a further row of cutoff_len 24, as "
                        "a document of its own; all 95 tokens are used"));
}

TEST_F(Usage, NothingUnusualIsNotSaid) {
  options_.file = write("plain.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"de\"}\n");
  EXPECT_EQ(remark(), "");
  options_.packing = true;
  EXPECT_EQ(remark(), "");
}

TEST_F(Usage, TokensBehindMaxTokensAreSaid) {
  options_.max_tokens = 12;
  const Dataset data = open();
  EXPECT_EQ(data.usage().documents, 2);
  EXPECT_EQ(data.usage().tokens, 12);
  EXPECT_EQ(data.usage().tokens_left_out, 83);
  EXPECT_THAT(data.usage_remark(), HasSubstr("the first 2 documents and 12 of 95 tokens are taken"));
}

}  // namespace
}  // namespace ithaca
