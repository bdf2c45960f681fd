// The cache of token ids: found again, never trusted when damaged, made once by many.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/data/corpus_cache.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Cache : public DataTest {
 protected:
  void SetUp() override {
    DataTest::SetUp();
    options_.file = write("a.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"de\"}\n");
    options_.cache_dir = folder_ / "deep" / "cache";
    options_.cutoff_len = 4;
  }
  Dataset open() { return Dataset::open(options_, byte_encoder(), kVocabulary); }
  fs::path only_file() const {
    fs::path found;
    int files = 0;
    for (const auto& entry : fs::directory_iterator(options_.cache_dir)) {
      if (entry.path().extension() == ".lock") continue;
      found = entry.path();
      ++files;
    }
    EXPECT_EQ(files, 1) << "a temporary file was left behind, or nothing was written";
    return found;
  }
  DatasetOptions options_;
};

TEST_F(Cache, IsFoundAgain) {
  const Dataset first = open();
  EXPECT_FALSE(first.from_cache());
  EXPECT_EQ(calls(), 2);
  const Dataset second = open();
  EXPECT_TRUE(second.from_cache());
  EXPECT_EQ(calls(), 2);
  EXPECT_EQ(second.num_tokens(), 7);
  const std::vector<int64_t> rows{0, 1};
  EXPECT_TRUE(first.batch(rows).input_ids.equal(second.batch(rows).input_ids));
  EXPECT_EQ(first.batch(rows).documents, second.batch(rows).documents);
}

TEST_F(Cache, OptionsThatDoNotChangeTheIdsShareIt) {
  open();
  options_.cutoff_len = 3;
  options_.packing = false;
  options_.max_samples = 1;
  EXPECT_TRUE(open().from_cache());
}

TEST_F(Cache, KeyedByContentTokenizerAndKind) {
  open();
  const DocumentEncoder same = byte_encoder();
  EXPECT_TRUE(Dataset::open(options_, same, kVocabulary).from_cache());
  DocumentEncoder other = same;
  other.fingerprint = "other bytes";
  EXPECT_FALSE(Dataset::open(options_, other, kVocabulary).from_cache());
  other = same;
  other.bos = 257;
  EXPECT_FALSE(Dataset::open(options_, other, kVocabulary).from_cache());
  other = same;
  other.eos = 5;
  EXPECT_FALSE(Dataset::open(options_, other, kVocabulary).from_cache());
  fs::copy(options_.file, folder_ / "copy.jsonl");
  options_.file = folder_ / "copy.jsonl";
  EXPECT_TRUE(open().from_cache()) << "the same bytes under another name";
  fs::copy(options_.file, folder_ / "copy.txt");
  options_.file = folder_ / "copy.txt";
  EXPECT_FALSE(open().from_cache()) << "the same bytes as one text";
  options_.file = write("copy.txt", "changed");
  EXPECT_FALSE(open().from_cache());
}

TEST_F(Cache, OverwriteCacheTokenisesAnew) {
  open();
  options_.overwrite_cache = true;
  EXPECT_FALSE(open().from_cache());
  EXPECT_EQ(calls(), 4);
}

TEST_F(Cache, EveryFlippedByteAndEveryCutIsNoticed) {
  open();
  const fs::path file = only_file();
  const std::string good = read_file(file, 1 << 20);
  ASSERT_GT(good.size(), 224u);
  std::vector<std::string> bad{"", "short", good + "x", std::string(good.size(), '\0')};
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string flipped = good;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    bad.push_back(flipped);
    if (i % 16 == 0) bad.push_back(good.substr(0, i));
  }
  const std::string key(good, 32, 64);
  Corpus corpus;
  for (std::size_t i = 0; i < bad.size(); ++i) {
    write_file(file, bad[i]);
    EXPECT_NE(load_cache(file, key, CacheCheck::kEveryByte, corpus), "") << "damage " << i;
  }
  const Dataset again = open();
  EXPECT_FALSE(again.from_cache());
  EXPECT_THAT(again.remark(), ::testing::AllOf(HasSubstr(file.string()), HasSubstr("tokenised anew")));
  EXPECT_EQ(again.num_tokens(), 7);
  EXPECT_EQ(read_file(file, 1 << 20), good);
  EXPECT_TRUE(open().from_cache());
  EXPECT_EQ(open().remark(), "");
}

TEST_F(Cache, LyingHeadersWithRightHashesAreRefused) {
  TokenizedDocuments documents;
  documents = {.ids = {1, 2, 0}, .bounds = {0, 3}, .max_id = 2};
  const std::string key(64, 'a');
  const fs::path file = folder_ / "tokens.bin";
  write_cache(file, key, documents);
  Corpus corpus;
  const CacheCheck check = CacheCheck::kSizesAndRanges;
  ASSERT_EQ(load_cache(file, key, check, corpus), "");
  EXPECT_EQ(load_cache(file, std::string(64, 'b'), check, corpus),
            "the token cache belongs to another file or tokenizer");

  const std::string good = read_file(file, 1 << 20);
  const std::size_t documents_at = 16, tokens_at = 24, hash_at = 160;
  for (const std::size_t at : {documents_at, tokens_at}) {
    for (const uint64_t count :
         {uint64_t{0}, uint64_t{2}, uint64_t{4}, uint64_t{1} << 40, uint64_t{1} << 61, ~uint64_t{0}}) {
      std::string lie = good;
      std::memcpy(lie.data() + at, &count, sizeof count);
      Sha256 hash;
      hash.update(std::string_view(lie).substr(0, hash_at));
      lie.replace(hash_at, 64, hash.hex());
      write_file(file, lie);
      EXPECT_EQ(load_cache(file, key, check, corpus), "the token cache's size is wrong")
          << count << " at " << at;
    }
  }
  documents.bounds = {0, 5, 3};
  write_cache(file, key, documents);
  EXPECT_EQ(load_cache(file, key, check, corpus), "the token cache's document bounds are wrong");
  documents = {.ids = {1, 9, 0}, .bounds = {0, 3}, .max_id = 8};
  write_cache(file, key, documents);
  EXPECT_EQ(load_cache(file, key, check, corpus), "the token cache's content is damaged");
  documents.ids[1] = -1;
  write_cache(file, key, documents);
  EXPECT_EQ(load_cache(file, key, check, corpus), "the token cache's content is damaged");
}

TEST_F(Cache, TheQuickCheckNoticesDamageOfHeaderAndBoundsAndEveryCut) {
  open();
  const fs::path file = only_file();
  const std::string good = read_file(file, 1 << 20);
  const std::string key(good, 32, 64);
  const std::size_t ids_at = 224 + 3 * sizeof(int64_t);  // two documents
  ASSERT_GT(good.size(), ids_at);
  Corpus corpus;
  for (std::size_t i = 0; i < good.size(); ++i) {
    if (i % 8 == 0) {
      write_file(file, good.substr(0, i));
      EXPECT_NE(load_cache(file, key, CacheCheck::kSizesAndRanges, corpus), "") << "cut at " << i;
    }
    if (i >= ids_at || i % 3 != 0) continue;
    std::string flipped = good;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    write_file(file, flipped);
    EXPECT_NE(load_cache(file, key, CacheCheck::kSizesAndRanges, corpus), "") << "flip at " << i;
  }
}

// Holds the lock of the only cache file as another process would.
class HeldLock {
 public:
  explicit HeldLock(const fs::path& cache_file)
      : fd_(::open(fs::path(cache_file).replace_extension(".lock").c_str(), O_RDWR)) {
    EXPECT_EQ(::flock(fd_, LOCK_EX | LOCK_NB), 0);
  }
  ~HeldLock() { ::close(fd_); }

 private:
  int fd_;
};

TEST_F(Cache, WaitingForAnotherProcessHasAnEnd) {
  open();
  const fs::path file = only_file();
  const HeldLock held(file);
  EXPECT_TRUE(open().from_cache()) << "who finds the file needs no lock";
  fs::remove(file);
  options_.lock_timeout = 0.1;
  try {
    open();
    FAIL() << "went on without the lock";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(HasSubstr("a.jsonl: another process"), HasSubstr(".lock")));
  }
}

TEST_F(Cache, OtherFilesDoNotWait) {
  open();
  const HeldLock held(only_file());
  options_.file = write("b.txt", "other text");
  options_.lock_timeout = 0.1;
  EXPECT_FALSE(open().from_cache());
}

TEST_F(Cache, ThreadsThatOpenAtOnceTokeniseOnce) {
  std::vector<int64_t> tokens(6);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < tokens.size(); ++t)
      threads.emplace_back([&, t] { tokens[t] = open().num_tokens(); });
  }
  EXPECT_EQ(tokens, std::vector<int64_t>(6, 7));
  EXPECT_EQ(calls(), 2);
  only_file();
}

TEST_F(Cache, WaitingRanksTakeWhatOverwriteCacheMadeMeanwhile) {
  open();
  options_.overwrite_cache = true;
  DocumentEncoder slow = byte_encoder();
  slow.encode = [inner = slow.encode](std::string_view text) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return inner(text);
  };
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) threads.emplace_back([&] { Dataset::open(options_, slow, kVocabulary); });
  }
  EXPECT_EQ(calls(), 4) << "two documents, once before and once by one of the four";
}

TEST_F(Cache, AProcessKilledWhileItTokenisesHarmsNobody) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    DocumentEncoder killed = byte_encoder();
    killed.encode = [](std::string_view) -> std::vector<int32_t> { ::_exit(0); };
    open_corpus(options_.file, killed, {.cache_dir = options_.cache_dir});
    ::_exit(1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_FALSE(fs::is_empty(options_.cache_dir)) << "its lock file is there";
  EXPECT_FALSE(open().from_cache());
  only_file();
}

}  // namespace
}  // namespace ithaca
