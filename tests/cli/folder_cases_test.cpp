// Model folders and GGUF files as users have them, through the whole program. Right values come from transformers 5.23.0
// (tools/oracles/folder_case_goldens.py), to 1e-5.
#include <gmock/gmock.h>

#include "tests/cli/run_program.h"
#include "tests/support/tiny_folder.h"

namespace ithaca::testing_program {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

const fs::path kCases = ITHACA_SOURCE_DIR "/tests/golden/folder_cases";

class FolderCases : public testing::Test {
 protected:
  // A copy of the base model that a test may change.
  fs::path model(const std::string& name = "model") const {
    fs::path copy = folder_.path() / name;
    fs::copy(kCases / "model", copy, fs::copy_options::recursive);
    return copy;
  }
  Result eval(const fs::path& model) const {
    return run_program({ITHACA_PROGRAM, "eval", "--model_name_or_path", model.string(), "--eval_file",
                        (kCases / "eval.txt").string(), "--cutoff_len", "48", "--output_dir",
                        (folder_.path() / "out").string(), "--overwrite_output_dir"},
                       {{"ITHACA_CACHE", (folder_.path() / "cache").string()}}, 60);
  }
  void expect_loss(const fs::path& model, const char* name) const {
    const Result result = eval(model);
    ASSERT_EQ(result.code, 0) << name << ": " << result.err;
    const double loss = read_json(folder_.path() / "out/eval_results.json").at("eval_loss").get<double>();
    EXPECT_NEAR(loss, goldens().at("eval_loss").at(name).get<double>(), 1e-5) << name;
  }
  Result generate(const fs::path& model,
                  const std::vector<std::string>& more = {"--max_new_tokens", "12"}) const {
    std::vector<std::string> words = {ITHACA_PROGRAM, "generate", "--model_name_or_path",
                                      model.string(), "--prompt", goldens().at("prompt").get<std::string>()};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words, {}, 60);
  }
  static json read_json(const fs::path& file) {
    std::ifstream in(file);
    return json::parse(in);
  }
  static void write_json(const fs::path& file, const json& value) {
    fs::remove(file);  // a link is replaced
    std::ofstream(file) << value.dump();
  }
  static void change(const fs::path& file, const json& patch) {
    json value = read_json(file);
    for (const auto& [key, changed] : patch.items()) value[key] = changed;
    write_json(file, value);
  }
  static json goldens() { return read_json(kCases / "goldens.json"); }

  TemporaryFolder folder_;
};

TEST_F(FolderCases, TheCacheOfTheHub) {
  const fs::path hub = folder_.path() / "hub/models--someone--tiny", snapshot = hub / "snapshots/0123";
  fs::create_directories(hub / "blobs");
  fs::create_directories(snapshot);
  int number = 0;
  for (const auto& entry : fs::directory_iterator(kCases / "model")) {
    const std::string blob = "blob" + std::to_string(number++);
    fs::copy_file(entry.path(), hub / "blobs" / blob);
    fs::create_symlink(fs::path("../../blobs") / blob, snapshot / entry.path().filename());
  }
  expect_loss(snapshot, "model");
}

TEST_F(FolderCases, OdditiesThatTransformersLoads) {
  int number = 0;
  const json patches = goldens().at("patches");
  for (const auto& [name, patch] : patches.items()) {
    const fs::path copy = model("model" + std::to_string(number++));
    change(copy / "config.json", patch);
    expect_loss(copy, name.c_str());
  }
  EXPECT_GE(number, 10);
}

TEST_F(FolderCases, AnIndexThatListsATiedHead) {
  const fs::path copy = folder_.path() / "tied";
  fs::copy(kCases / "tied", copy);
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(kCases / "model" / file, copy / file);
  expect_loss(copy, "tied");
  change(copy / "config.json", {{"vocab_size", 385}});
  const Result result = eval(copy);
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err,
              HasSubstr("model.embed_tokens.weight has shape [384, 32], config.json says [385, 32]"));
}

TEST_F(FolderCases, GenerationConfigIsRead) {
  int number = 0;
  const json cases = goldens().at("generation");
  for (const json& one : cases) {
    const fs::path copy = model("model" + std::to_string(number++));
    fs::remove(copy / "generation_config.json");
    if (!one.at("file").is_null()) write_json(copy / "generation_config.json", one.at("file"));
    change(copy / "config.json", one.at("config"));
    const std::vector<std::string> more = one.at("words").get<std::vector<std::string>>();
    const Result result = generate(copy, more);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out, one.at("text").get<std::string>() + "\n") << one;
  }
  EXPECT_GE(number, 6);
  const fs::path copy = model("refused");
  write_json(copy / "generation_config.json", {{"num_beams", 4}});
  const Result result = generate(copy);
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("num_beams is 4"));
}

TEST_F(FolderCases, TextThatCannotBeWrittenIsNoSuccess) {
  const std::string line = std::string(ITHACA_PROGRAM) + " generate --model_name_or_path '" +
                           (kCases / "model").string() +
                           "' --prompt 'home sail' --max_new_tokens 2 >/dev/full";
  const Result result = run_program({"/bin/sh", "-c", line}, {}, 60);
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("standard output could not be written"));
}

// Refused at the start, by one line of the front program, with key and tensor: nothing is allocated for a claim.
TEST_F(FolderCases, ClaimedSizesAreRefusedBeforeAnythingIsBuilt) {
  const fs::path copy = model();
  change(copy / "config.json", {{"hidden_size", 1 << 20}, {"head_dim", 8}, {"vocab_size", 1 << 22}});
  const Result result = eval(copy);
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("vocab_size, hidden_size"), HasSubstr("model.embed_tokens.weight")));
  EXPECT_LT(result.seconds, 10);
}

TEST_F(FolderCases, ASplitGgufIsJoined) {
  const auto convert = [&](const fs::path& file, const char* out) {
    return run_program({ITHACA_PROGRAM, "convert", file.string(), (folder_.path() / out).string()}, {}, 60);
  };
  for (const char* part : {"split-00001-of-00002.gguf", "split-00002-of-00002.gguf"}) {
    const Result result = convert(kCases / part, part);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("21 tensors"));
  }
  const fs::path lonely = folder_.path() / "lonely-00001-of-00002.gguf";
  fs::copy_file(kCases / "split-00001-of-00002.gguf", lonely);
  const Result alone = convert(lonely, "alone");
  EXPECT_EQ(alone.code, 2);
  EXPECT_THAT(alone.err,
              AllOf(HasSubstr("is part 1 of 2 of a split file"), HasSubstr("llama-gguf-split --merge")));
}

TEST(ModelFilesPage, IsWhatTheProgramPrints) {
  std::stringstream page;
  page << std::ifstream(ITHACA_SOURCE_DIR "/docs/model_files.md").rdbuf();
  EXPECT_EQ(run_program({ITHACA_PROGRAM, "help", "model_files"}).out, page.str())
      << "write it again: ithaca help model_files > docs/model_files.md";
}

}  // namespace
}  // namespace ithaca::testing_program
