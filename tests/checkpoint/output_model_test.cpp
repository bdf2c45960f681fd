// The final model of an output folder after a stop between any two of commit_model's steps.
#include "ithaca/checkpoint/output_model.h"

#include <gmock/gmock.h>

#include <fstream>
#include <map>

#include "ithaca/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

using Files = std::map<std::string, std::string>;

const Files kOld = {{"config.json", "old config"},
                    {"model-00001-of-00002.safetensors", "old 1"},
                    {"model-00002-of-00002.safetensors", "old 2"},
                    {"model.safetensors.index.json", "old index"},
                    {"tokenizer.json", "old tokenizer"}};
const Files kNew = {
    {"config.json", "new config"}, {"model.safetensors", "new"}, {"tokenizer.json", "new tokenizer"}};

void write_all(const fs::path& folder, const Files& files) {
  fs::create_directories(folder);
  for (const auto& [name, text] : files) std::ofstream(folder / name) << text;
}

Files read_model(const fs::path& folder) {
  Files files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path());
    files[entry.path().filename()] = std::string(std::istreambuf_iterator<char>(in), {});
  }
  return files;
}

TEST(OutputModel, TakesThePlaceOfAnOlderOneAndLeavesTheRest) {
  TemporaryFolder folder;
  write_all(folder.path(), kOld);
  folder.write("checkpoint-3/model.safetensors", "a checkpoint");
  folder.write("trainer_log.jsonl", "a log");
  const fs::path staged = begin_model(folder.path());
  write_all(staged, kNew);
  commit_model(staged, folder.path());
  Files expected = kNew;
  expected["trainer_log.jsonl"] = "a log";
  EXPECT_EQ(read_model(folder.path()), expected);
  EXPECT_EQ(read_model(folder / "checkpoint-3"), (Files{{"model.safetensors", "a checkpoint"}}));
  EXPECT_FALSE(fs::exists(folder / "model.new"));
}

TEST(OutputModel, IsNeverAMixtureWhereverAKillComes) {
  // What a killed commit leaves: `moved` files have come over, of the old model `gone` are deleted.
  const std::vector<std::string> order = {"model.safetensors", "tokenizer.json", "config.json"};
  for (std::size_t moved = 0; moved <= order.size(); ++moved) {
    SCOPED_TRACE(moved);
    TemporaryFolder folder;
    write_all(folder.path(), kOld);
    const fs::path whole = folder / "model.new";
    write_all(whole, kNew);
    std::ofstream(whole / "files.json") << R"(["config.json", "model.safetensors", "tokenizer.json"])";
    if (moved > 0) {
      for (const char* name : {"config.json", "model-00001-of-00002.safetensors",
                               "model-00002-of-00002.safetensors", "model.safetensors.index.json"})
        fs::remove(folder / name);
      EXPECT_FALSE(fs::exists(folder / "config.json"));
    }
    for (std::size_t i = 0; i < moved; ++i) fs::rename(whole / order[i], folder / order[i]);
    finish_model(folder.path());
    EXPECT_EQ(read_model(folder.path()), kNew);
    EXPECT_FALSE(fs::exists(whole));
    finish_model(folder.path());  // nothing left to do
    EXPECT_EQ(read_model(folder.path()), kNew);
  }
}

TEST(OutputModel, AnUnfinishedOneIsForgottenAndTheOldOneStays) {
  TemporaryFolder folder;
  write_all(folder.path(), kOld);
  write_all(folder / "model.tmp.1-2", kNew);
  finish_model(folder.path());
  EXPECT_EQ(read_model(folder.path()), kOld);
  const fs::path staged = begin_model(folder.path());
  EXPECT_FALSE(fs::exists(folder / "model.tmp.1-2"));
  EXPECT_TRUE(fs::is_empty(staged));
  remove_unfinished_model(folder.path());
  EXPECT_FALSE(fs::exists(staged));
  EXPECT_EQ(read_model(folder.path()), kOld);
}

TEST(OutputModel, AFileThatIsALinkIsReplacedAndNotWrittenThrough) {
  TemporaryFolder folder;
  folder.write("elsewhere/weights", "somebody's weights");
  fs::create_directory(folder / "out");
  fs::create_symlink(folder / "elsewhere/weights", folder / "out/model.safetensors");
  const fs::path staged = begin_model(folder / "out");
  write_all(staged, kNew);
  commit_model(staged, folder / "out");
  EXPECT_EQ(read_model(folder / "elsewhere").at("weights"), "somebody's weights");
  EXPECT_EQ(read_model(folder / "out"), kNew);
}

TEST(OutputModel, AFolderThatCannotBeWrittenIsNamed) {
  TemporaryFolder folder;
  EXPECT_THROW(
      try { begin_model(folder / "absent"); } catch (const UserError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("absent"));
        throw;
      },
      UserError);
}

}  // namespace
}  // namespace ithaca
