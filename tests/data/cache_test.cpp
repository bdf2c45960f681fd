// The cache of token ids: found again, never trusted when damaged, made once by many.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/data/corpus_cache.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
const Poll kGoOn = [] {};

// Unlike write_file() without waiting for the disk.
void overwrite(const fs::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

void write_cache(const fs::path& path, const std::string& key, const std::vector<int32_t>& ids,
                 const std::vector<int64_t>& lengths, int32_t max_id) {
  CacheWriter writer(path, key);
  writer.append(ids, lengths);
  writer.commit(max_id);
}

class Cache : public DataTest {
 protected:
  void SetUp() override {
    DataTest::SetUp();
    file_ = write("a.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"de\"}\n");
    options_.cache_dir = folder_ / "deep" / "cache";
  }
  Corpus open() { return open_with(byte_encoder()); }
  Corpus open_with(const DocumentEncoder& encoder) { return open_corpus(file_, encoder, options_); }
  fs::path only_file() const {
    fs::path found;
    int files = 0;
    for (const auto& entry : fs::directory_iterator(options_.cache_dir)) {
      if (entry.path().extension() == ".lock" || entry.path().extension() == ".stamp") continue;
      found = entry.path();
      ++files;
    }
    EXPECT_EQ(files, 1) << "a temporary file was left behind, or nothing was written";
    return found;
  }
  fs::path file_;
  CorpusOptions options_;
};

TEST_F(Cache, IsFoundAgain) {
  const Corpus first = open();
  EXPECT_FALSE(first.from_cache);
  EXPECT_EQ(calls(), 2);
  const Corpus second = open();
  EXPECT_TRUE(second.from_cache);
  EXPECT_EQ(calls(), 2);
  EXPECT_EQ(second.max_id, 'e' + 1);
  EXPECT_EQ(second.content_hash, sha256_of_file(file_));
  EXPECT_EQ(texts(second), (std::vector<std::string>{"abc", "de"}));
  EXPECT_EQ(texts(first), texts(second));
}

TEST_F(Cache, WithoutAFolderTheSameIsHeldInMemory) {
  const Corpus kept = open();
  options_.cache_dir.clear();
  const Corpus held = open();
  EXPECT_FALSE(held.from_cache);
  EXPECT_EQ(texts(held), texts(kept));
  EXPECT_EQ(held.max_id, kept.max_id);
  EXPECT_EQ(held.content_hash, kept.content_hash);
}

// Also by the process that tokenised: nothing but the mapping stays.
TEST_F(Cache, IdsAreMappedFromTheFile) {
  for (const Corpus& corpus : {open(), open()}) {
    std::ifstream maps("/proc/self/maps");
    const auto address = reinterpret_cast<uintptr_t>(corpus.ids.data());
    bool found = false;
    for (std::string line; std::getline(maps, line);) {
      uintptr_t begin = 0, end = 0;
      char dash = 0;
      std::istringstream(line) >> std::hex >> begin >> dash >> end;
      found = found ||
              (address >= begin && address < end && line.find(only_file().string()) != std::string::npos);
    }
    EXPECT_TRUE(found);
  }
}

TEST_F(Cache, KeyedByContentTokenizerAndKind) {
  open();
  const DocumentEncoder same = byte_encoder();
  EXPECT_TRUE(open_with(same).from_cache);
  DocumentEncoder other = same;
  other.fingerprint = "other bytes";
  EXPECT_FALSE(open_with(other).from_cache);
  other = same;
  other.bos = 257;
  EXPECT_FALSE(open_with(other).from_cache);
  other = same;
  other.eos = 5;
  EXPECT_FALSE(open_with(other).from_cache);
  fs::copy(file_, folder_ / "copy.jsonl");
  file_ = folder_ / "copy.jsonl";
  EXPECT_TRUE(open().from_cache) << "the same bytes under another name";
  fs::copy(file_, folder_ / "copy.txt");
  file_ = folder_ / "copy.txt";
  EXPECT_FALSE(open().from_cache) << "the same bytes as one text";
  file_ = write("copy.txt", "changed");
  EXPECT_FALSE(open().from_cache);
}

TEST_F(Cache, OverwriteCacheTokenisesAnew) {
  open();
  options_.overwrite = true;
  EXPECT_FALSE(open().from_cache);
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
    overwrite(file, bad[i]);
    EXPECT_NE(load_cache(file, key, CacheCheck::kEveryByte, kGoOn, corpus), "") << "damage " << i;
  }
  const Corpus again = open();
  EXPECT_FALSE(again.from_cache);
  EXPECT_THAT(again.remark, ::testing::AllOf(HasSubstr(file.string()), HasSubstr("tokenised anew")));
  EXPECT_EQ(again.ids.size(), 7u);
  EXPECT_EQ(read_file(file, 1 << 20), good);
  EXPECT_TRUE(open().from_cache);
  EXPECT_EQ(open().remark, "");
}

TEST_F(Cache, LyingHeadersWithRightHashesAreRefused) {
  const std::string key(64, 'a');
  const fs::path file = folder_ / "tokens.bin";
  write_cache(file, key, {1, 2, 0}, {3}, 2);
  Corpus corpus;
  const CacheCheck check = CacheCheck::kSizesAndRanges;
  ASSERT_EQ(load_cache(file, key, check, kGoOn, corpus), "");
  EXPECT_EQ(load_cache(file, std::string(64, 'b'), check, kGoOn, corpus),
            "the token cache belongs to another file or tokenizer");

  const std::string good = read_file(file, 1 << 20);
  const std::size_t documents_at = 16, tokens_at = 24, hash_at = 160;
  for (const std::size_t at : {documents_at, tokens_at}) {
    for (const uint64_t count :
         {uint64_t{0}, uint64_t{2}, uint64_t{6}, uint64_t{1} << 40, uint64_t{1} << 61, ~uint64_t{0}}) {
      std::string lie = good;
      std::memcpy(lie.data() + at, &count, sizeof count);
      Sha256 hash;
      hash.update(std::string_view(lie).substr(0, hash_at));
      lie.replace(hash_at, 64, hash.hex());
      overwrite(file, lie);
      EXPECT_EQ(load_cache(file, key, check, kGoOn, corpus), "the token cache's size is wrong")
          << count << " at " << at;
    }
  }
  write_cache(file, key, {1, 2, 0}, {5, -2}, 2);
  EXPECT_EQ(load_cache(file, key, check, kGoOn, corpus), "the token cache's document bounds are wrong");
  write_cache(file, key, {1, 2, 0}, {3, 1}, 2);
  EXPECT_EQ(load_cache(file, key, check, kGoOn, corpus), "the token cache's size is wrong");
  write_cache(file, key, {1, 9, 0}, {3}, 8);
  EXPECT_EQ(load_cache(file, key, check, kGoOn, corpus), "the token cache's content is damaged");
  write_cache(file, key, {1, -1, 0}, {3}, 8);
  EXPECT_EQ(load_cache(file, key, check, kGoOn, corpus), "the token cache's content is damaged");
}

TEST_F(Cache, TheQuickCheckNoticesDamageOfHeaderAndBoundsAndEveryCut) {
  open();
  const fs::path file = only_file();
  const std::string good = read_file(file, 1 << 20);
  const std::string key(good, 32, 64);
  const std::size_t ids_at = 224, bounds_at = ids_at + 8 * sizeof(int32_t);  // seven ids and padding
  ASSERT_EQ(good.size(), bounds_at + 3 * sizeof(int64_t));                   // two documents
  Corpus corpus;
  for (std::size_t i = 0; i < good.size(); ++i) {
    if (i % 8 == 0) {
      overwrite(file, good.substr(0, i));
      EXPECT_NE(load_cache(file, key, CacheCheck::kSizesAndRanges, kGoOn, corpus), "") << "cut at " << i;
    }
    if ((i >= ids_at && i < bounds_at) || i % 3 != 0) continue;
    std::string flipped = good;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    overwrite(file, flipped);
    EXPECT_NE(load_cache(file, key, CacheCheck::kSizesAndRanges, kGoOn, corpus), "") << "flip at " << i;
  }
}

TEST_F(Cache, ThreadsThatOpenAtOnceTokeniseOnce) {
  std::vector<std::size_t> tokens(6);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < tokens.size(); ++t)
      threads.emplace_back([&, t] { tokens[t] = open().ids.size(); });
  }
  EXPECT_EQ(tokens, std::vector<std::size_t>(6, 7));
  EXPECT_EQ(calls(), 2);
  only_file();
}

TEST_F(Cache, WaitingRanksTakeWhatOverwriteCacheMadeMeanwhile) {
  open();
  options_.overwrite = true;
  DocumentEncoder slow = byte_encoder();
  slow.encode = [inner = slow.encode](std::string_view text, const Poll& poll, std::vector<int32_t>& ids) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    inner(text, poll, ids);
  };
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) threads.emplace_back([&] { open_with(slow); });
  }
  EXPECT_EQ(calls(), 4) << "two documents, once before and once by one of the four";
}

TEST_F(Cache, AProcessKilledWhileItTokenisesHarmsNobody) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    DocumentEncoder killed = byte_encoder();
    killed.encode = [](std::string_view, const Poll&, std::vector<int32_t>&) { ::_exit(0); };
    open_with(killed);
    ::_exit(1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_THAT(only_file().string(), HasSubstr(".bin.tmp."));
  EXPECT_FALSE(open().from_cache);
  EXPECT_EQ(only_file().extension(), ".bin");
}

TEST_F(Cache, AFileThatChangesWhileItIsTokenisedIsRefused) {
  DocumentEncoder meddling = byte_encoder();
  meddling.encode = [&](std::string_view, const Poll&, std::vector<int32_t>&) {
    write("a.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"dE\"}\n");
  };
  try {
    open_with(meddling);
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("a.jsonl: changed while it was tokenised"));
  }
  EXPECT_FALSE(open().from_cache);
  only_file();
}

// A limit on the size of files stands for a full disk: the same path through the code, and no disk to fill.
TEST_F(Cache, AFullDiskIsToldWithTheWayRound) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{300, 300};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::string message = "accepted";
    try {
      file_ = write("b.txt", std::string(200, 'x'));
      open();
    } catch (const UserError& error) {
      message = error.what();
    }
    const bool told = message.find("the token cache cannot be kept: ") != std::string::npos &&
                      message.find("the limit on the size of a file is reached") != std::string::npos &&
                      message.find("set cache_dir to another folder") != std::string::npos;
    const auto left = std::count_if(
        fs::directory_iterator(options_.cache_dir), fs::directory_iterator(), [](const auto& entry) {
          return entry.path().extension() != ".lock" && entry.path().extension() != ".stamp";
        });
    ::_exit(told && left == 0 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace ithaca
