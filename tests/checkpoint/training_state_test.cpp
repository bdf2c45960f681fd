#include "ithaca/checkpoint/training_state.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

std::vector<StoredTensor> to_store(const NamedTensors& tensors) {
  std::vector<StoredTensor> stored;
  for (const auto& [name, value] : tensors)
    stored.push_back({name, value.scalar_type(), value.sizes().vec(), [tensor = value] { return tensor; }});
  return stored;
}
std::vector<StoredPart> to_fill(const NamedTensors& tensors) {
  std::vector<StoredPart> parts;
  for (const auto& [name, tensor] : tensors)
    parts.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), 0, tensor});
  return parts;
}

NamedTensors optimizer(double value) {
  return {{"w.exp_avg", at::full({3, 2}, value, at::kFloat)},
          {"w.step", at::full({}, 7, at::kLong)},
          {"w.master", at::full({4}, value, at::kDouble)},
          {"rng", at::arange(5, at::kByte)},
          {"w.value", at::full({2}, value, at::kBFloat16)}};
}

fs::path save(const fs::path& output_dir, int64_t step, int64_t limit = 0) {
  const fs::path temporary = begin_checkpoint(output_dir, step);
  write_training_state(temporary, {step, {{"loss", 0.1 + static_cast<double>(step)}, {"rng", "00ff"}}},
                       to_store(optimizer(0.1 * static_cast<double>(step))));
  write_file(temporary / "model.safetensors", "weights of step " + std::to_string(step));
  return commit_checkpoint(temporary, output_dir, step, limit);
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(TrainingStateTest, ComesBackBitForBit) {
  const TemporaryFolder folder;
  const fs::path path = save(folder.path(), 3);
  EXPECT_EQ(path.filename(), "checkpoint-3");
  std::vector<std::string> skipped;
  const auto found = find_checkpoint(folder.path(), skipped);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 3);
  EXPECT_TRUE(skipped.empty());
  const NamedTensors expected = optimizer(0.1 * 3.0);
  NamedTensors target = optimizer(0.0);
  target[1].second.zero_();
  target[3].second.zero_();
  const TrainingState state = read_training_state(found->path);
  read_optimizer_state(found->path, to_fill(target));
  EXPECT_EQ(state.step, 3);
  EXPECT_EQ(state.state["loss"].get<double>(), 0.1 + 3.0);
  EXPECT_EQ(state.state["rng"], "00ff");
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(at::equal(target[i].second, expected[i].second)) << expected[i].first;
}

TEST(TrainingStateTest, APartOfATensorIsRead) {
  const TemporaryFolder folder;
  const fs::path path = save(folder.path(), 3);
  std::vector<StoredPart> parts = to_fill(optimizer(0.0));
  for (StoredPart& part : parts) part.part = at::Tensor();
  const at::Tensor middle = at::zeros({2}, at::kByte);
  parts[3].begin = 2;
  parts[3].part = middle;
  read_optimizer_state(path, parts);
  EXPECT_TRUE(at::equal(middle, at::arange(2, 4, at::kByte)));
}

TEST(TrainingStateTest, AnotherModelsCheckpointListsEveryDifference) {
  const TemporaryFolder folder;
  const fs::path path = save(folder.path(), 1);
  NamedTensors other = optimizer(0.0);
  other[0].second = at::zeros({2, 3}, at::kFloat);
  other[2].second = at::zeros({4}, at::kFloat);
  other[4].first = "v.value";
  try {
    read_optimizer_state(path, to_fill(other));
    FAIL() << "accepted";
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, HasSubstr("optimizer.safetensors"));
    EXPECT_THAT(message, HasSubstr("w.exp_avg has shape [3, 2], this run needs [2, 3]"));
    EXPECT_THAT(message, HasSubstr("w.master has dtype F64, this run needs F32"));
    EXPECT_THAT(message, HasSubstr("v.value is missing"));
    EXPECT_THAT(message, HasSubstr("w.value is not used"));
  }
}

void append(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::app | std::ios::binary) << bytes;
}

void flip_last_bit(const fs::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const char last = static_cast<char>(file.get() ^ 1);
  file.seekp(-1, std::ios::end);
  file.put(last);
}

TEST(CheckpointTest, ABadNewestFolderIsSkippedWithTheReason) {
  struct Damage {
    const char* reason;
    std::function<void(const fs::path&)> make;
  };
  const std::vector<Damage> damages = {
      {"optimizer.safetensors: has",
       [](const fs::path& f) { fs::resize_file(f / "optimizer.safetensors", 40); }},
      {"training_state.json: has", [](const fs::path& f) { append(f / "training_state.json", " "); }},
      {"optimizer.safetensors: its SHA-256 differs",
       [](const fs::path& f) { flip_last_bit(f / "optimizer.safetensors"); }},
      {"model.safetensors: its SHA-256 differs",
       [](const fs::path& f) { flip_last_bit(f / "model.safetensors"); }},
      {"model.safetensors: is missing", [](const fs::path& f) { fs::remove(f / "model.safetensors"); }},
      {"extra.bin: is not in integrity.json", [](const fs::path& f) { append(f / "extra.bin", "x"); }},
      {"integrity.json: is missing", [](const fs::path& f) { fs::remove(f / "integrity.json"); }},
      {"not valid JSON", [](const fs::path& f) { fs::resize_file(f / "integrity.json", 30); }},
      {"expected format 1", [](const fs::path& f) { write_file(f / "integrity.json", "{}"); }},
      {"expected a size and a sha256",
       [](const fs::path& f) {
         write_file(
             f / "integrity.json",
             R"({"format":1,"step":2,"files":{"model.safetensors":1,"optimizer.safetensors":2,"training_state.json":3}})");
       }},
      {"symbolic link",
       [](const fs::path& f) {
         fs::rename(f / "model.safetensors", f.parent_path() / "elsewhere");
         fs::create_symlink(f.parent_path() / "elsewhere", f / "model.safetensors");
       }},
      {"is of step 1",
       [](const fs::path& f) {
         fs::remove_all(f);
         fs::copy(f.parent_path() / "checkpoint-1", f);
       }},
      {"SHA-256 differs",  // shards of two checkpoints swapped
       [](const fs::path& f) {
         fs::copy_file(f.parent_path() / "checkpoint-1" / "model.safetensors", f / "model.safetensors",
                       fs::copy_options::overwrite_existing);
       }},
  };
  for (const Damage& damage : damages) {
    const TemporaryFolder folder;
    save(folder.path(), 1);
    const fs::path newest = save(folder.path(), 2);
    damage.make(newest);
    std::vector<std::string> skipped;
    const auto found = find_checkpoint(folder.path(), skipped);
    ASSERT_TRUE(found) << damage.reason;
    EXPECT_EQ(found->step, 1) << damage.reason;
    ASSERT_EQ(skipped.size(), 1U) << damage.reason;
    EXPECT_THAT(skipped[0], HasSubstr("checkpoint-2"));
    EXPECT_THAT(skipped[0], HasSubstr(damage.reason));
    EXPECT_THROW(verify_checkpoint(newest), UserError) << damage.reason;
  }
}

TEST(CheckpointTest, FailingMidWayLeavesTheOldOne) {
  const TemporaryFolder folder;
  save(folder.path(), 4);
  const fs::path temporary = begin_checkpoint(folder.path(), 5);
  write_training_state(temporary, {5, {}}, to_store(optimizer(1.0)));  // and the process dies here
  std::vector<std::string> skipped;
  const auto found = find_checkpoint(folder.path(), skipped);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 4);
  ASSERT_EQ(skipped.size(), 1U);
  EXPECT_THAT(skipped[0], HasSubstr("never finished"));
}

TEST(CheckpointTest, TheOldestGoBeyondTheLimit) {
  const TemporaryFolder folder;
  for (const int64_t step : {2, 10, 9}) save(folder.path(), step);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"checkpoint-10", "checkpoint-2", "checkpoint-9"}));
  save(folder.path(), 11, 2);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"checkpoint-10", "checkpoint-11"}));
  save(folder.path(), 12, 1);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"checkpoint-12"}));
}

TEST(CheckpointTest, DamagedFoldersDoNotCountTowardTheLimit) {
  const TemporaryFolder folder;
  save(folder.path(), 1);
  save(folder.path(), 2);
  fs::resize_file(save(folder.path(), 3) / "optimizer.safetensors", 40);
  fs::remove(save(folder.path(), 4) / "integrity.json");
  save(folder.path(), 5, 2);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"checkpoint-2", "checkpoint-3", "checkpoint-4", "checkpoint-5"}));
  save(folder.path(), 6, 2);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"checkpoint-5", "checkpoint-6"}));
}

// A process number that nobody has: of a child that has ended and been waited for.
pid_t dead_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  EXPECT_GT(child, 0);
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
  return child;
}

TEST(CheckpointTest, LeftoversOfDeadProcessesAreRemovedByTheNextSave) {
  const TemporaryFolder folder;
  save(folder.path(), 3);
  const std::string dead = std::to_string(dead_process()), alive = std::to_string(::getpid());
  fs::create_directories(folder.path() / ("checkpoint-4.tmp." + dead + "-77/part"));
  fs::create_directories(folder.path() / ("checkpoint-3.tmp." + dead + "-78.old"));
  write_file(folder.path() / ("checkpoint-3.tmp." + dead + "-78.old") / "integrity.json", "{}");
  fs::create_directories(folder.path() / ("checkpoint-4.tmp." + alive + "-79"));
  // killed between two renames: the only copy of its step
  fs::create_directories(folder.path() / ("checkpoint-2.tmp." + dead + "-80.old"));
  write_file(folder.path() / ("checkpoint-2.tmp." + dead + "-80.old") / "integrity.json", "{}");
  fs::create_directories(folder.path() / "notes.tmp.1");
  save(folder.path(), 5);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"checkpoint-2.tmp." + dead + "-80.old", "checkpoint-3",
                                      "checkpoint-4.tmp." + alive + "-79", "checkpoint-5", "notes.tmp.1"}));
}

TEST(CheckpointTest, RemoveCheckpointsLeavesEverythingElse) {
  const TemporaryFolder folder;
  save(folder.path(), 3);
  save(folder.path(), 12);
  begin_checkpoint(folder.path(), 13);
  write_file(folder.path() / "config.json", "{}");
  fs::create_directories(folder.path() / "checkpoint-best");
  remove_checkpoints(folder.path());
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"checkpoint-best", "config.json"}));
  EXPECT_NO_THROW(remove_checkpoints(folder.path() / "absent"));
}

TEST(CheckpointTest, TheOneJustWrittenIsNeverDeleted) {
  const TemporaryFolder folder;
  save(folder.path(), 9);
  save(folder.path(), 3, 1);  // resumed from before step 9
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"checkpoint-3"}));
}

TEST(CheckpointTest, SavingAStepAgainReplacesIt) {
  const TemporaryFolder folder;
  const fs::path first = save(folder.path(), 6);
  append(first / "stale", "x");
  const fs::path second = save(folder.path(), 6);
  EXPECT_EQ(first, second);
  EXPECT_NO_THROW(verify_checkpoint(second));
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"checkpoint-6"}));
}

TEST(CheckpointTest, TwoWritersDoNotShareAFolder) {
  const TemporaryFolder folder;
  EXPECT_NE(begin_checkpoint(folder.path(), 1), begin_checkpoint(folder.path(), 1));
}

TEST(CheckpointTest, NothingIsFoundWhereNothingIs) {
  const TemporaryFolder folder;
  std::vector<std::string> skipped;
  EXPECT_FALSE(find_checkpoint(folder.path(), skipped));
  EXPECT_FALSE(find_checkpoint(folder.path() / "absent", skipped));
  fs::create_directory(folder.path() / "checkpoint-x");
  EXPECT_FALSE(find_checkpoint(folder.path(), skipped));
  EXPECT_TRUE(skipped.empty());
  EXPECT_THROW(begin_checkpoint("/proc/nowhere", 1), UserError);
}

}  // namespace
}  // namespace ithaca
