// The stamp that remembers a text's hash: never trusted for another text.
#include "ithaca/data/text_hash.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;

class TextHash : public DataTest {
 protected:
  // Files that have settled: a stamp is trusted two seconds after their last change, and no ctime can be set back.
  static void SetUpTestSuite() {
    texts_ = std::make_unique<TemporaryFolder>();
    for (const char* name : {"a.txt", "b.txt"}) texts_->write(name, "home");
    std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  }
  static void TearDownTestSuite() { texts_.reset(); }
  void SetUp() override {
    DataTest::SetUp();
    fs::create_directories(cache_);
    file_ = *texts_ / "a.txt";
  }
  std::string hash(int64_t not_before = 0) {
    const FileState state = FileState::of(file_);
    const DocumentReader reader(file_);
    return hash_of_text(file_, reader, state, cache_, not_before, {});
  }
  fs::path stamp() const {
    for (const auto& entry : fs::directory_iterator(cache_))
      if (entry.path().extension() == ".stamp") return entry.path();
    return {};
  }
  // A stamp that says otherwise for the file as it is; whether it is believed shows in the hash.
  void lie(int64_t hashed_seconds_later, const std::string& hash = std::string(64, 'b')) {
    const FileState state = FileState::of(file_);
    std::string text = "ithaca-text-1";
    for (const int64_t value : state.values) text += " " + std::to_string(value);
    text += " " + std::to_string((state.values[5] + hashed_seconds_later) * 1'000'000'000 + state.values[6]);
    write_file(stamp(), text + " " + hash + "\n");
  }
  const fs::path cache_ = folder_ / "cache";
  fs::path file_;
  static std::unique_ptr<TemporaryFolder> texts_;
};

std::unique_ptr<TemporaryFolder> TextHash::texts_;

TEST_F(TextHash, IsTheHashOfTheBytes) {
  EXPECT_EQ(hash(), sha256_of_file(file_));
  EXPECT_EQ(hash(), sha256_of_file(file_));
  EXPECT_FALSE(stamp().empty());
}

TEST_F(TextHash, AStampIsTrustedOnceTheTextHasSettled) {
  const std::string right = hash();
  EXPECT_EQ(right, sha256_of_file(file_));
  lie(1);
  EXPECT_EQ(hash(), right) << "hashed within two seconds of the last change";
  lie(-1);
  EXPECT_EQ(hash(), right);
  lie(2);
  EXPECT_EQ(hash(), std::string(64, 'b')) << "the stamp is used: the text is not hashed again";
  const int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
  EXPECT_EQ(hash(now), right) << "overwrite_cache";
  lie(1000);
  EXPECT_EQ(hash(), right) << "a stamp from the future";
}

TEST_F(TextHash, AStampOfAnotherStateIsNot) {
  file_ = *texts_ / "b.txt";
  const std::string right = hash();
  lie(2);
  ASSERT_EQ(hash(), std::string(64, 'b'));
  // the same size and mtime, put there by a rename or in place
  struct stat before {};
  ASSERT_EQ(::stat(file_.c_str(), &before), 0);
  const timespec times[2] = {before.st_atim, before.st_mtim};
  texts_->write("b.txt", "sail");
  ASSERT_EQ(::utimensat(AT_FDCWD, file_.c_str(), times, 0), 0);
  EXPECT_EQ(hash(), sha256_of_file(file_));
  EXPECT_NE(hash(), right);
}

TEST_F(TextHash, ADamagedStampIsNot) {
  const std::string right = hash();
  lie(2);
  const std::string good = read_file(stamp(), 1024);
  ASSERT_EQ(hash(), std::string(64, 'b'));
  std::vector<std::string> bad{
      "", "\n", good + "x", good + good, std::string(100, '\0'), std::string(5000, 'x')};
  for (std::size_t i = 0; i < good.size(); i += 20) bad.push_back(good.substr(0, i));
  lie(2, std::string(63, 'b') + "B");
  bad.push_back(read_file(stamp(), 1024));
  lie(2, std::string(64, '/'));
  bad.push_back(read_file(stamp(), 1024));
  for (const std::string& text : bad) {
    write_file(stamp(), text);
    EXPECT_EQ(hash(), right) << text;
  }
}

TEST_F(TextHash, AFolderThatCannotTakeStampOrLockOnlyCostsTheTime) {
  const std::string right = hash();
  const fs::path path = stamp(), lock = fs::path(path).replace_extension(".lock");
  for (const fs::path& blocked : {path, lock}) {
    fs::remove(path);
    fs::remove(lock);
    fs::create_directories(blocked / "in the way");
    EXPECT_EQ(hash(), right);
    fs::remove_all(blocked);
  }
}

}  // namespace
}  // namespace ithaca
