// Texts and settings files as people have them, through the real program.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/cli/run_program.h"
#include "tests/support/tiny_folder.h"

namespace ithaca::testing_program {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;
using Words = std::vector<std::string>;

int times(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

class DataCases : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_.path("model"));
    fs::copy(fs::path(ITHACA_SOURCE_DIR) / "tests/golden/data/packing", folder_.path("model"));
    expected_ = folder_.json("model/expected.json");
  }

  // A run over `file` of the folder; cutoff_len 48 unless `more` says so.
  Words words(const std::string& command, const std::string& file, const Words& more = {}) const {
    Words all{ITHACA_PROGRAM,
              command,
              "--model_name_or_path",
              folder_.path("model"),
              command == "eval" ? "--eval_file" : "--train_file",
              folder_.path(file),
              "--output_dir",
              folder_.path("out"),
              "--cutoff_len",
              "48",
              "--cache_dir",
              folder_.path("cache"),
              "--ddp_timeout",
              "20"};
    const Words training{"--train_from_scratch", "--max_steps", "1",
                         "--plot_loss",          "false",       "--overwrite_output_dir"};
    if (command == "train") all.insert(all.end(), training.begin(), training.end());
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Result train(const std::string& file, const Words& more = {}) const {
    return run_program(words("train", file, more));
  }
  // Tokens that are predicted in `file`.
  int64_t eval_tokens(const std::string& file) const {
    const Result result = run_program(words("eval", file));
    EXPECT_EQ(result.code, 0) << result.err;
    return folder_.json("out/eval_results.json").at("eval_tokens").get<int64_t>();
  }
  void expect_refused(const Result& result, const std::string& what) const {
    EXPECT_EQ(result.code, 2) << result.err;
    EXPECT_FALSE(result.timed_out);
    EXPECT_THAT(result.err, HasSubstr(what));
  }

  TinyFolder folder_;
  nlohmann::json expected_;  // of the model's documents, by transformers: tools/oracles/packing_goldens.py
};

TEST_F(DataCases, AByteOrderMarkIsNotTrainedOnAndEndingsMayBeInAnyCase) {
  const std::string mark = "\xEF\xBB\xBF";
  folder_.write("bom.txt", mark + "home sail island\n");
  EXPECT_EQ(eval_tokens("bom.txt"), 17) << "as many characters, and eos is predicted";
  folder_.write("upper.JSONL", mark + "{\"text\": \"home sail island\"}\n");
  EXPECT_EQ(eval_tokens("upper.JSONL"), 16);
  folder_.write("Upper.TXT", "home sail island");
  EXPECT_EQ(eval_tokens("Upper.TXT"), 16);
}

TEST_F(DataCases, KeysThatAreNotReadMayHoldWhatWritersProduce) {
  folder_.write(
      "odd.jsonl",
      "{\"score\": NaN, \"text\": \"home\"}\n{\"text\": \"sail\", \"big\": -1e999, \"half\": \"\\ud800\"}\n"
      "{\"id\": 1, \"id\": 123456789012345678901234567890, \"text\": \"oar\"}\n");
  EXPECT_EQ(eval_tokens("odd.jsonl"), 11);
}

TEST_F(DataCases, OtherEncodingsAreNamedWithTheWayRound) {
  std::string wide;
  for (const char c : std::string("home sail island")) wide += {c, '\0'};
  folder_.write("marked.txt", "\xFF\xFE" + wide);
  folder_.write("plain.txt", wide);
  folder_.write("latin1.txt", "caf\xE9 au lait");
  expect_refused(train("marked.txt"),
                 "marked.txt: is UTF-16 (it begins with FF FE); expected UTF-8, convert it "
                 "first: iconv -f UTF-16 -t UTF-8");
  expect_refused(train("plain.txt"), "iconv -f UTF-16LE -t UTF-8");
  expect_refused(train("latin1.txt", {"--nproc", "2"}), "latin1.txt: not UTF-8 at byte 3 (0xE9)");
  EXPECT_FALSE(folder_.has("out/model.safetensors"));
}

TEST_F(DataCases, ASecondYamlDocumentIsRefusedAtItsLine) {
  folder_.write("run.yaml", "model_name_or_path: " + folder_.path("model") + "\ntrain_file: " +
                                folder_.path("train.txt") + "\nmax_steps: 1\n---\nseed: 9\n");
  for (const Words& command : {Words{"check", "cfg"}, Words{"train"}}) {
    Words all{ITHACA_PROGRAM};
    all.insert(all.end(), command.begin(), command.end());
    all.insert(all.end(), {folder_.path("run.yaml"), "--output_dir", folder_.path("out")});
    expect_refused(run_program(all), "run.yaml:4: a second YAML document begins here");
  }
}

// Refused at once and by name, where it would wait for a writer for ever.
TEST_F(DataCases, PipesInPlaceOfFilesAreRefused) {
  const auto pipe = [&](const std::string& name) {
    fs::remove(folder_.path(name));
    ASSERT_EQ(::mkfifo(folder_.path(name).c_str(), 0600), 0);
  };
  pipe("rows.jsonl");
  expect_refused(train("rows.jsonl"), "rows.jsonl: is a pipe, not a file");
  expect_refused(train("train.txt", {"--eval_file", "/dev/stdin", "--eval_steps", "1"}),
                 "/dev/stdin: is a device");
  pipe("run.yaml");
  expect_refused(run_program({ITHACA_PROGRAM, "train", folder_.path("run.yaml")}), "run.yaml: is a pipe");
  for (const char* name : {"model/tokenizer.json", "model/config.json"}) {
    const std::string kept = folder_.read(name);
    pipe(name);
    expect_refused(train("train.txt"), std::string(name) + ": is a pipe");
    fs::remove(folder_.path(name));
    folder_.write(name, kept);
  }
}

class PackingCut : public DataCases {
 protected:
  std::string cut_remark() const {
    return std::to_string(expected_.at("documents_cut").get<int>()) + " documents were cut and " +
           std::to_string(expected_.at("tokens_unused").get<int>()) + " of " +
           std::to_string(expected_.at("tokens").get<int>()) + " tokens are not used";
  }
  Result evaluate(const std::string& packing) const {
    return run_program(words("eval", "model/docs.jsonl", {"--cutoff_len", "24", "--packing", packing}));
  }
  void expect_loss(const nlohmann::json& expected) const {
    const nlohmann::json found = folder_.json("out/eval_results.json");
    EXPECT_EQ(found.at("eval_tokens"), expected.at("eval_tokens"));
    EXPECT_NEAR(found.at("eval_loss").get<double>(), expected.at("eval_loss").get<double>(), 1e-5);
  }
};

TEST_F(PackingCut, WhatIsCutIsCountedAndSaid) {
  const Result result = evaluate("false");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(times(result.err, cut_remark()), 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("1 document of fewer than two tokens has nothing to predict"));
  expect_loss(expected_.at("rows"));
}

TEST_F(PackingCut, WithPackingNothingIsCutOff) {
  const Result result = evaluate("true");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr(" of 8 documents go on in a further row of cutoff_len 24"),
                                HasSubstr("all 177 tokens are used"), Not(HasSubstr("not used"))));
  expect_loss(expected_.at("packed"));
}

TEST_F(PackingCut, TrainingSaysItToo) {
  const Result result =
      train("model/docs.jsonl", {"--cutoff_len", "24", "--packing", "false", "--nproc", "2"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(times(result.err, cut_remark()), 1) << result.err;
}

}  // namespace
}  // namespace ithaca::testing_program
