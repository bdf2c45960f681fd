// A resumed run is the same run, or says what differs: by each setting's mark, by the content of data and model; and a
// branch that was given up is not gone on with unasked.
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>

#include "ithaca/base/hash.h"
#include "tests/train/tiny_run.h"

namespace fs = std::filesystem;

namespace ithaca::testing_run {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using Words = std::vector<std::string>;

// Of every setting that is not free: another value than the default, and what else it takes. A setting that is added
// and marked must be added here.
const std::map<std::string, Words> kChanges = {
    {"sliding_window", {"9"}},
    {"position_embedding", {"alibi"}},
    {"causal", {"false"}},
    {"sparse_attention.mode", {"fixed"}},
    {"sparse_attention.block", {"8"}},
    {"sparse_attention.num_local_blocks", {"2"}},
    {"sparse_attention.num_global_blocks", {"2"}},
    {"packing", {"false"}},
    {"cutoff_len", {"30"}},
    {"disable_shuffling", {"true"}},
    {"bf16", {"true"}},
    {"seed", {"7"}},
    {"attention", {"naive"}},
    {"per_device_train_batch_size", {"1", "--gradient_accumulation_steps", "2"}},
    {"gradient_accumulation_steps", {"2", "--per_device_train_batch_size", "1"}},
    {"learning_rate", {"0.02"}},
    {"lr_scheduler_type", {"cosine"}},
    {"warmup_steps", {"2"}},
    {"warmup_ratio", {"0.5"}},
    {"weight_decay", {"0.1"}},
    {"adam_beta1", {"0.8"}},
    {"adam_beta2", {"0.9"}},
    {"adam_epsilon", {"1e-6"}},
    {"max_grad_norm", {"0.5"}},
    {"optim", {"adamw_torch"}},
    {"gradient_checkpointing", {"full"}},
    {"sequence_parallel_size", {"2"}},
    {"sequence_parallel_method", {"ring"}},
    {"ulysses_degree", {"1"}},
    {"sequence_parallel_order", {"ring_inner"}},
    {"cp_window_size", {"2"}},
    {"ulysses_chunks", {"2"}},
};
// Only one value so far.
const std::vector<std::string> kOneValue = {"stage", "tensor_parallel_size"};

struct Outcome {
  std::string refusal, log;
};

Outcome go_on_with(const Words& words, int ranks) {
  TinyRun run;
  EXPECT_EQ(run.train("out", {"--max_steps", "2"}, 1), kDone);
  Outcome outcome;
  try {
    EXPECT_EQ(run.train("out", words, ranks), kDone);
  } catch (const UserError& error) {
    outcome.refusal = error.what();
  }
  outcome.log = run.log("out");
  return outcome;
}

TEST(SameRun, EverySettingIsRefusedOrSaidAsItsMarkSays) {
  int refused = 0, said = 0;
  for (const std::string& name : setting_names()) {
    if (on_resume(name) == OnResume::kFree || std::ranges::find(kOneValue, name) != kOneValue.end()) continue;
    SCOPED_TRACE(name);
    ASSERT_TRUE(kChanges.contains(name)) << "a marked setting without a case";
    Words words = {"--" + name};
    words.insert(words.end(), kChanges.at(name).begin(), kChanges.at(name).end());
    int ranks = 1;
    if (name.starts_with("sequence_parallel") || name.starts_with("ulysses") || name == "cp_window_size") {
      ranks = name == "cp_window_size" ? 4 : 2;
      for (const std::string& word : {std::string("--sequence_parallel_size"), std::to_string(ranks)})
        words.push_back(word);
    }
    if (name == "cp_window_size")
      for (const char* word : {"--sequence_parallel_method", "double_ring"}) words.push_back(word);
    const Outcome outcome = go_on_with(words, ranks);
    if (on_resume(name) == OnResume::kSame) {
      EXPECT_THAT(outcome.refusal, HasSubstr(name + " "));
      EXPECT_THAT(outcome.refusal, HasSubstr(kChanges.at(name)[0] + " now"));
      ++refused;
    } else {
      EXPECT_EQ(outcome.refusal, "");
      EXPECT_THAT(outcome.log, ContainsRegex("other conditions: .*" + name + " [^,]+ then, [^,]+ now"));
      ++said;
    }
  }
  EXPECT_GE(refused, 12);
  EXPECT_GE(said, 18);
}

TEST(SameRun, TheSameCommandSaysNothing) {
  const Outcome outcome = go_on_with({"--logging_steps", "2", "--save_steps", "3", "--max_steps", "2"}, 1);
  EXPECT_EQ(outcome.refusal, "");
  EXPECT_THAT(outcome.log, Not(HasSubstr("other conditions")));
  EXPECT_THAT(outcome.log, HasSubstr("resuming"));
}

class OtherContent : public testing::Test {
 protected:
  OtherContent() { EXPECT_EQ(run_.train("out", {"--max_steps", "2"}), kDone); }
  void expect_refused(const std::string& what) {
    try {
      run_.train("out", {});
      ADD_FAILURE() << "gone on with";
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr(what));
    }
  }
  TinyRun run_;
};

TEST_F(OtherContent, ATextOfAsManyTokensIsRefused) {
  std::string text = run_.read("train.txt");
  text.replace(text.find("beginning"), 9, "gnoinnigb");
  run_.write("train.txt", text);
  expect_refused("text (SHA-256)");
}

TEST_F(OtherContent, AModelOfTheSameShapesIsRefused) {
  Json config = Json::parse(run_.read("model/config.json"));
  config["rope_theta"] = 20000.0;
  run_.write("model/config.json", config.dump());
  expect_refused("config.json (SHA-256)");
}

TEST_F(OtherContent, ATokenizerThatGivesOtherIdsIsRefused) {
  Json tokenizer = Json::parse(run_.read("model/tokenizer.json"));
  std::swap(tokenizer["model"]["vocab"]["a"], tokenizer["model"]["vocab"]["b"]);
  run_.write("model/tokenizer.json", tokenizer.dump());
  expect_refused("tokenizer (SHA-256)");
}

TEST_F(OtherContent, AnotherPlaceOfTheSameFilesIsTheSameRun) {
  fs::copy(run_.path("model"), run_.path("moved"), fs::copy_options::recursive);
  fs::copy(run_.path("train.txt"), run_.path("moved.txt"));
  ASSERT_EQ(run_.train("out", {"--model_name_or_path", run_.path("moved"), "--train_file",
                               run_.path("moved.txt"), "--max_steps", "2"}),
            kDone);
  EXPECT_THAT(run_.log("out"), Not(HasSubstr("warning")));
}

TEST_F(OtherContent, ACheckpointThatDoesNotSayIsGoneOnWithAndThatIsSaid) {
  const fs::path file = run_.path("out/checkpoint-2/training_state.json");
  Json state = Json::parse(run_.read("out/checkpoint-2/training_state.json"));
  state["state"]["identity"].erase("causal");
  const std::string text = state.dump();
  run_.write("out/checkpoint-2/training_state.json", text);
  Json integrity = Json::parse(run_.read("out/checkpoint-2/integrity.json"));
  integrity["files"]["training_state.json"] = {{"size", text.size()}, {"sha256", sha256_of(text)}};
  run_.write("out/checkpoint-2/integrity.json", integrity.dump());
  ASSERT_EQ(run_.train("out", {}), kDone);
  EXPECT_THAT(run_.log("out"),
              HasSubstr("older version and does not say whether these are the same: causal"));
}

TEST(Branches, AnAbandonedOneIsNotGoneOnWithUnasked) {
  TinyRun run;
  ASSERT_EQ(run.train("out", {}), kDone);  // to step 6
  const std::string back = run.path("out/checkpoint-2");
  // Goes back to step 2, gets to 3, and "crashes": the total stays 6, so that the schedule is the same.
  ASSERT_EQ(run.train("out", {"--resume_from_checkpoint", back, "--max_steps", "3"}), kDone);
  EXPECT_THAT(run.log("out"), HasSubstr("abandoned-checkpoint-6"));
  for (const int step : {3, 4, 5, 6})
    EXPECT_TRUE(fs::exists(run.path(str("out/abandoned-checkpoint-", step)) / "integrity.json")) << step;
  ASSERT_EQ(run.train("out", {}), kDone);
  EXPECT_THAT(run.log("out"), HasSubstr("resuming " + run.path("out/checkpoint-3").string()));
  // The same path again: what the second branch wrote is set aside beside the first.
  ASSERT_EQ(run.train("out", {"--resume_from_checkpoint", back, "--max_steps", "3"}), kDone);
  EXPECT_TRUE(fs::exists(run.path("out/abandoned-checkpoint-6-2/integrity.json")));
}

TEST(Branches, ACheckpointOfAnotherFolderSetsAllOfThisOneAside) {
  TinyRun run;
  ASSERT_EQ(run.train("first", {"--max_steps", "4"}), kDone);
  ASSERT_EQ(run.train("second", {"--max_steps", "2"}), kDone);
  ASSERT_EQ(
      run.train("second", {"--max_steps", "5", "--resume_from_checkpoint", run.path("first/checkpoint-4")}),
      kDone);
  EXPECT_FALSE(fs::exists(run.path("second/checkpoint-1")));
  EXPECT_TRUE(fs::exists(run.path("second/abandoned-checkpoint-1")));
  EXPECT_TRUE(fs::exists(run.path("second/checkpoint-5")));
  EXPECT_TRUE(fs::exists(run.path("first/checkpoint-4")));
}

}  // namespace
}  // namespace ithaca::testing_run
