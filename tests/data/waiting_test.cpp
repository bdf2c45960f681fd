// Those who wait for another process's work, and those who are told to stop.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "ithaca/data/cache_lock.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class Waiting : public DataTest {
 protected:
  void SetUp() override {
    DataTest::SetUp();
    file_ = write("a.txt", "abc");
    options_.cache_dir = folder_ / "cache";
    options_.host.say = [this](const std::string& line) { said_.push_back(line); };
  }
  Corpus open() { return open_corpus(file_, byte_encoder(), options_); }
  fs::path cache_file(const std::string& extension) const {
    for (const auto& entry : fs::directory_iterator(options_.cache_dir))
      if (entry.path().filename().string().starts_with("tokens-") && entry.path().extension() == extension)
        return entry.path();
    return {};
  }
  // What is in the cache folder beside lock files and the stamps of texts.
  std::vector<std::string> kept() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(options_.cache_dir))
      if (entry.path().extension() != ".lock" && entry.path().extension() != ".stamp")
        names.push_back(entry.path().filename());
    return names;
  }

  fs::path file_;
  CorpusOptions options_;
  std::vector<std::string> said_;
};

// Holds a lock as another process would.
class HeldLock {
 public:
  explicit HeldLock(const fs::path& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    EXPECT_EQ(::flock(fd_, LOCK_EX | LOCK_NB), 0);
  }
  ~HeldLock() { ::close(fd_); }

 private:
  int fd_;
};

TEST_F(Waiting, WhoFindsTheFileNeedsNoLockAndOtherFilesDoNotWait) {
  open();
  const HeldLock held(cache_file(".lock"));
  EXPECT_TRUE(open().from_cache);
  file_ = write("b.txt", "other text");
  EXPECT_FALSE(open().from_cache);
  EXPECT_THAT(said_, ElementsAre());
}

TEST_F(Waiting, LastsAsLongAsTheHolderLivesAndIsSaid) {
  open();
  const fs::path made = cache_file(".bin"), aside = folder_ / "aside";
  fs::rename(made, aside);
  std::jthread other;
  {
    auto held = std::make_unique<CacheLock>(cache_file(".lock"), "a.txt is tokenised", Host{});
    other = std::jthread([&, held = std::move(held)]() mutable {
      std::this_thread::sleep_for(std::chrono::milliseconds(5600));
      fs::rename(aside, made);
      held.reset();
    });
  }
  const auto begin = Clock::now();
  EXPECT_TRUE(open().from_cache);
  EXPECT_GT(seconds_since(begin), 5.0);
  EXPECT_LT(seconds_since(begin), 30.0);
  EXPECT_EQ(calls(), 1);
  ASSERT_EQ(said_.size(), 1u);
  EXPECT_THAT(said_.front(),
              AllOf(HasSubstr("waiting while " + file_.string() + " is tokenised by process " +
                              std::to_string(::getpid()) + " on "),
                    ContainsRegex("since [0-9]+-[0-9]+-[0-9]+ [0-9]+:[0-9]+:[0-9]+"), HasSubstr(".lock")));
}

TEST_F(Waiting, EndsWithAStop) {
  open();
  fs::remove(cache_file(".bin"));
  const HeldLock held(cache_file(".lock"));
  const auto begin = Clock::now();
  options_.host.stop_requested = [&] { return seconds_since(begin) > 0.2; };
  EXPECT_THROW(open(), Stopped);
  EXPECT_LT(seconds_since(begin), 4.0);
}

TEST_F(Waiting, AStopEndsTokenisingAtOnceAndLeavesNothingBehind) {
  std::string lines;
  for (int i = 0; i < 8000; ++i) lines += "{\"text\": \"" + std::string(1000, 'x') + "\"}\n";
  file_ = write("long.jsonl", lines);
  DocumentEncoder slow = byte_encoder();
  slow.encode = [](std::string_view text, const Poll& poll, std::vector<int32_t>& ids) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      poll();
      ids.push_back(1);
    }
  };
  for (const fs::path& cache_dir : {options_.cache_dir, fs::path()}) {
    options_.cache_dir = cache_dir;
    const auto begin = Clock::now();
    options_.host.stop_requested = [&] { return seconds_since(begin) > 0.3; };
    try {
      open_corpus(file_, slow, options_);
      FAIL() << "went on";
    } catch (const Stopped& stopped) {
      EXPECT_EQ(stopped.code(), kStoppedAndSaved);
      EXPECT_THAT(stopped.what(), HasSubstr("long.jsonl is tokenised"));
    }
    EXPECT_LT(seconds_since(begin), 4.0) << "80 s of work";
  }
  options_.cache_dir = folder_ / "cache";
  EXPECT_THAT(kept(), ElementsAre());
  options_.host.stop_requested = {};
  EXPECT_FALSE(open().from_cache) << "and the lock is free";
}

TEST_F(Waiting, AStopIsHeardWhileTheTextIsHashedAndTheCacheChecked) {
  open();
  int asked = 0;
  options_.host.stop_requested = [&] { return ++asked > 0; };
  options_.overwrite = true;  // hashes anew
  EXPECT_THROW(open(), Stopped);
  options_.overwrite = false;
  asked = 0;
  EXPECT_THROW(open(), Stopped);
  EXPECT_EQ(asked, 1);
}

TEST_F(Waiting, AFailureLeavesNothingBehind) {
  DocumentEncoder broken = byte_encoder();
  broken.encode = [](std::string_view, const Poll&, std::vector<int32_t>&) { throw UserError("a bad text"); };
  EXPECT_THROW(open_corpus(file_, broken, options_), UserError);
  EXPECT_THAT(kept(), ElementsAre());
  EXPECT_FALSE(open().from_cache);
}

TEST_F(Waiting, StopAndSayAreCalledOnTheOpeningThreadOnly) {
  const auto self = std::this_thread::get_id();
  int asked = 0;
  bool elsewhere = false;
  options_.host.stop_requested = [&] {
    ++asked;
    elsewhere = elsewhere || std::this_thread::get_id() != self;
    return false;
  };
  open();
  open();
  EXPECT_GT(asked, 0);
  EXPECT_FALSE(elsewhere);
}

}  // namespace
}  // namespace ithaca
