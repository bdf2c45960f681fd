// Every way to write a setting wrongly: the message names where and what, and says what was expected.
#include <gmock/gmock.h>

#include "ithaca/config/settings.h"
#include "tests/config/temporary_folder.h"

namespace ithaca {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using Words = std::vector<std::string>;

struct BadText {
  std::string file, text;
  std::string names, expects;  // parts of the message
};

const std::vector<BadText>& bad_texts() {
  static const std::string deep(3000, '[');
  static const std::vector<BadText> cases = {
      {"a.yaml", "cutof_len: 5", "a.yaml:1: cutof_len", "cutoff_len"},
      {"a.yaml", "seed: 1\n\nlerning_rate: 1", "a.yaml:3: lerning_rate", "learning_rate"},
      {"a.yaml", "cutoff_len: abc", "a.yaml:1: cutoff_len: abc", "an integer from 2"},
      {"a.yaml", "cutoff_len: 1.5", "cutoff_len: 1.5", "an integer"},
      {"a.yaml", "cutoff_len: 1", "cutoff_len: 1", "from 2"},
      {"a.yaml", "cutoff_len: -5", "cutoff_len: -5", "from 2"},
      {"a.yaml", "max_samples: 1e300", "max_samples: 1e300", "an integer from 0"},
      {"a.yaml", "max_samples: 99999999999999999999", "max_samples", "an integer from 0"},
      {"a.yaml", "learning_rate: nan", "learning_rate: nan", "a number above 0"},
      {"a.yaml", "learning_rate: .inf", "learning_rate: .inf", "a number above 0"},
      {"a.yaml", "learning_rate: 0", "learning_rate: 0", "above 0"},
      {"a.yaml", "learning_rate: 1e-4x", "learning_rate: 1e-4x", "a number"},
      {"a.yaml", "learning_rate: \"\"", "learning_rate", "a number"},
      {"a.yaml", "warmup_ratio: 1.5", "warmup_ratio: 1.5", "from 0 to 1"},
      {"a.yaml", "adam_beta1: 1", "adam_beta1: 1", "to 0.999999"},
      {"a.yaml", "bf16: maybe", "bf16: maybe", "true or false"},
      {"a.yaml", "bf16: 2", "bf16: 2", "true or false"},
      {"a.yaml", "stage: sft", "stage: sft", "comes later"},
      {"a.yaml", "stage: zzz", "stage: zzz", "expected pt"},
      {"a.yaml", "lr_scheduler_type: polynomial", "lr_scheduler_type: polynomial", "one of linear, cosine"},
      {"a.yaml", "optim: adam", "optim: adam", "adamw_torch_fused"},
      {"a.yaml", "attention: magic", "attention: magic", "one of auto, naive"},
      {"a.yaml", "gradient_checkpointing: keep_attention", "gradient_checkpointing: keep_attention",
       "comes later"},
      {"a.yaml", "gradient_checkpointing: some", "gradient_checkpointing: some", "one of false, full"},
      {"a.yaml", "train_file: [a, b]", "a.yaml:1: train_file is a list", "one value"},
      {"a.yaml", "seed: {a: 1}", "a.yaml:1: seed is a mapping", "one value"},
      {"a.yaml", "seed: 1\nseed: 1", "a.yaml:2: seed", "given twice"},
      {"a.yaml", "seed: &x 1", "a.yaml:1", "anchors"},
      {"a.yaml", "a: &x [1]\nb: *x", "a.yaml:2", "aliases"},
      {"a.yaml", "- seed", "a.yaml:1", "`name: value`"},
      {"a.yaml", "just words", "a.yaml:1", "`name: value`"},
      {"a.yaml", "seed: 1\n bad indent: [", "a.yaml:2", "not valid YAML"},
      {"a.yaml", "seed: \"open", "a.yaml", "not valid YAML"},
      {"a.yaml", "? [a]\n: 1", "a.yaml:1", "cannot be the name"},
      {"a.yaml", deep, "a.yaml:1", "a list"},
      {"a.yaml", "seed: " + deep, "a.yaml", "not valid YAML"},
      {"a.yaml", std::string((1 << 20) + 1, ' '), "a.yaml", "at most 1048576"},
      {"a.yaml", "deepspeed: ds.json", "a.yaml:1: deepspeed", "comes later"},
      {"a.yaml", "fp16: true", "fp16: true", "bf16 exists"},
      {"a.json", "{\"seed\": }", "a.json", "not valid JSON"},
      {"a.json", "[1]", "a.json", "one object"},
      {"a.json", "{\"seed\": 1, \"seed\": 2}", "\"seed\"", "twice"},
      {"a.json", "{\n\"seed\": [1]}", "a.json:2: seed is a list", "one value"},
      {"a.json", "{\"seed\": 1.5}", "seed: 1.5", "an integer"},
      {"a.json", "{\"sead\": 1}", "a.json:1: sead", "seed"},
      {"a.json", "{\"prompt\": \"a\\u0000b\"}", "prompt", "zero byte"},
      {"a.json", "{\"seed\": " + deep + "}", "a.json", "nested deeper"},
  };
  return cases;
}

TEST(BadSettings, Files) {
  ASSERT_GE(bad_texts().size(), 40u);
  for (const BadText& bad : bad_texts()) {
    Problems problems;
    resolve_settings_text(bad.text, bad.file, {}, problems);
    EXPECT_THAT(problems.list(), Contains(AllOf(HasSubstr(bad.names), HasSubstr(bad.expects))))
        << bad.text.substr(0, 60);
  }
}

struct BadWords {
  Words words;
  std::string names, expects;
};

const std::vector<BadWords>& bad_words() {
  static const std::vector<BadWords> cases = {
      {{"--cutof_len", "5"}, "--cutof_len 5", "--cutoff_len"},
      {{"--cutof-len"}, "--cutof-len", "--cutoff_len"},
      {{"--seed"}, "--seed needs a value", "--seed VALUE"},
      {{"--seed", "--bf16"}, "--seed needs a value", "VALUE"},
      {{"--bf16", "perhaps"}, "--bf16 perhaps", "true or false"},
      {{"-x", "5"}, "-x", "expected --setting value"},
      {{"word"}, "word", "setting=value"},
      {{"--"}, "--", "expected --setting value"},
      {{"=5"}, "=5", "expected --setting value"},
      {{"seed=abc"}, "seed=abc", "an integer"},
      {{"--context-parallel-algo", "hybrid_cp_algo"}, "--context-parallel-algo hybrid_cp_algo", "come later"},
      {{"--context-parallel-algo", "megatron_cp_algo"}, "megatron_cp_algo", "ulysses_cp_algo"},
      {{"--context-parallel-algo"}, "--context-parallel-algo needs a value", "VALUE"},
      {{"--num_gpus", "2"}, "--num_gpus 2: unknown setting", "`ithaca help settings` lists"},
      {{"--use-flash-attn"}, "--use-flash-attn", "attention"},
      {{"--sequence_parallel_size", "2", "--context-parallel-size", "4"},
       "--sequence_parallel_size 2",
       "--context-parallel-size 4"},
      {{"--sequence-parallel-size=2", "sequence_parallel_size=3"},
       "--sequence-parallel-size=2",
       "sequence_parallel_size=3"},
      {{"--ds-sequence-parallel-size", "0"}, "--ds-sequence-parallel-size 0", "from 1"},
      {{"--ddp_timeout", "0"}, "--ddp_timeout 0", "above 0"},
      {{"--nproc", "1e9"}, "--nproc 1e9", "to 4096"},
      {{"--ddp_timeout", "1e10"}, "--ddp_timeout 1e10", "at most 1000000000"},
      {{"--cutoff_len", "1e12"}, "--cutoff_len 1e12", "from 2 to 1073741824"},
      {{"--do_train", "false"}, "--do_train false", "ithaca eval"},
      {{"--warmup_steps", "1.5"}, "--warmup_steps 1.5", "an integer from 0"},
      {{"--warmup_steps", "0.1", "--warmup_ratio", "0.2"}, "--warmup_steps 0.1", "--warmup_ratio 0.2"},
  };
  return cases;
}

TEST(BadSettings, CommandLines) {
  ASSERT_GE(bad_words().size(), 20u);
  for (const BadWords& bad : bad_words()) {
    try {
      resolve_settings({}, bad.words);
      ADD_FAILURE() << "accepted: " << bad.words.front();
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(bad.names), HasSubstr(bad.expects)));
      EXPECT_EQ(error.code(), kUserMistake);
    }
  }
}

TEST(BadSettings, AllProblemsAtOnce) {
  Problems problems;
  const ResolvedSettings resolved = resolve_settings_text("cutof_len: 5\nseed: x\nbf16: maybe\n", "a.yaml",
                                                          {"--stage", "sft", "--oops"}, problems);
  EXPECT_THAT(problems.list(), SizeIs(5));
  EXPECT_EQ(resolved.values.seed, 42) << "a setting with a problem keeps its default";
  EXPECT_FALSE(resolved.is_given("seed"));
}

TEST(BadSettings, ManyProblemsAreCutShort) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += str("unknown_", i, ": 1\n");
  Problems problems;
  resolve_settings_text(text, "a.yaml", {}, problems);
  EXPECT_THAT(problems.list(), SizeIs(testing::Lt(60u)));
}

// A folder with a model, a text and nothing wrong.
class CheckSettings : public testing::Test {
 protected:
  CheckSettings() {
    folder_.write("model/config.json", kTinyConfig);
    folder_.write("text.txt", "In the beginning");
    folder_.write("odd.csv", "a,b");
  }
  std::string at(const std::string& name) const { return (folder_.path() / name).string(); }
  Words good() const {
    return {"--model_name_or_path", at("model"),    "--train_file", at("text.txt"),
            "--eval_file",          at("text.txt"), "--output_dir", at("out")};
  }
  std::vector<std::string> check(const Words& more, int64_t world_size,
                                 std::string_view command = "train") const {
    Words words = good();
    words.insert(words.end(), more.begin(), more.end());
    Problems problems;
    const ResolvedSettings settings = resolve_settings({}, words, problems);
    check_settings(settings, world_size, problems, command);
    check_output_dir(settings, problems);
    if (problems.empty())
      check_model_layout(settings, read_model_config(settings.values.model_name_or_path), world_size,
                         problems);
    return problems.list();
  }
  TemporaryFolder folder_;
};

TEST_F(CheckSettings, GoodSettingsHaveNoProblems) {
  EXPECT_THAT(check({}, 1), IsEmpty());
  EXPECT_THAT(check({"--sequence_parallel_size", "2"}, 4), IsEmpty());
  EXPECT_THAT(check({"--sequence_parallel_size", "9", "--ulysses_degree", "9"}, 9), IsEmpty());
  EXPECT_THAT(check({}, 3, "eval"), IsEmpty());
  EXPECT_THAT(check({"--prompt", "x"}, 1, "generate"), IsEmpty());
}

TEST_F(CheckSettings, EachProblemNamesTheFlagAsTyped) {
  struct Case {
    Words words;
    int64_t world_size;
    std::string command, names, expects;
  };
  const std::vector<Case> cases = {
      {{"--model_name_or_path", "org/model"},
       1,
       "train",
       "--model_name_or_path org/model",
       "local Hugging Face model folder"},
      {{"--model_name_or_path", folder_.path().string()},
       1,
       "train",
       "--model_name_or_path",
       "no config.json"},
      {{"--model_name_or_path", at("text.txt")}, 1, "train", "--model_name_or_path", "not a folder"},
      {{"--model_name_or_path", folder_.write("m.gguf", "GGUF")}, 1, "train", "m.gguf", "ithaca convert"},
      {{"--train_file", "absent.txt"}, 1, "train", "--train_file absent.txt", ".txt or .jsonl"},
      {{"--train_file", at("model")}, 1, "train", "--train_file", "not a file"},
      {{"--train_file", at("odd.csv")}, 1, "train", "odd.csv", "ends in .txt"},
      {{"--eval_file=absent.jsonl"}, 1, "train", "--eval_file=absent.jsonl", "no such file"},
      {{"--train_file", ""}, 1, "train", "train_file is missing", "--train_file VALUE"},
      {{"--output_dir", ""}, 1, "train", "output_dir is missing", "a folder for the results"},
      {{"--model_name_or_path", ""}, 1, "eval", "model_name_or_path is missing", "ithaca eval"},
      {{"--eval_file", ""}, 1, "eval", "eval_file is missing", "a text to evaluate"},
      {{"--output_dir", ""}, 1, "eval", "output_dir is missing", "a folder for the results"},
      {{"--output_dir", at("text.txt") + "/out"}, 1, "eval", "--output_dir", "text.txt is a file"},
      {{"--attention", "cudnn"}, 1, "train", "--attention cudnn", "needs an NVIDIA GPU"},
      {{"--attention=flash", "--prompt", "x"}, 1, "generate", "--attention=flash", "choose auto"},
      {{}, 1, "generate", "prompt is missing", "ithaca generate"},
      {{"--prompt", "x", "--nproc", "2"}, 2, "generate", "--nproc 2", "one rank"},
      {{"--prompt", "x", "--do_sample"}, 1, "generate", "--do_sample", "comes later"},
      {{"--resume_from_checkpoint", "gone"}, 1, "train", "--resume_from_checkpoint gone", "no such folder"},
      {{"--resume_from_checkpoint", "true"}, 1, "train", "--resume_from_checkpoint true", "no checkpoint-N"},
      {{"--max_steps", "0"}, 1, "train", "--max_steps 0", "at least 1, or -1"},
      {{"--warmup_steps", "5", "--warmup_ratio", "0.1"},
       1,
       "train",
       "--warmup_steps 5 and --warmup_ratio 0.1",
       "give one"},
      {{"--lr_scheduler_type", "constant", "--warmup_steps", "5"},
       1,
       "train",
       "--warmup_steps 5",
       "constant_with_warmup"},
      {{"--eval_steps", "5", "--eval_file", ""}, 1, "train", "--eval_steps 5", "needs eval_file"},
      {{"--tensor-model-parallel-size", "2"}, 2, "train", "--tensor-model-parallel-size 2", "only 1"},
      {{"--context-parallel-size", "4"},
       1,
       "train",
       "--context-parallel-size 4 needs 4 ranks, this run has 1",
       "--nproc 4"},
      {{"--sequence_parallel_size", "2"}, 3, "train", "--sequence_parallel_size 2", "start 2 or 4 ranks"},
      {{"--ulysses_degree", "2"}, 2, "train", "--ulysses_degree 2", "expected sequence_parallel_size 2"},
      {{"--sequence_parallel_size", "4", "--ulysses_degree", "2"},
       4,
       "train",
       "--ulysses_degree 2 with --sequence_parallel_size 4",
       "a ring of 2"},
      {{"--sequence_parallel_size", "4", "--ulysses_degree", "3"},
       4,
       "train",
       "--ulysses_degree 3",
       "not divisible by 3"},
      {{"--sequence_parallel_size", "2", "--ulysses_degree", "4"},
       4,
       "train",
       "--ulysses_degree 4",
       "not divisible by 4"},
      {{"--sequence_parallel_size", "10"}, 10, "train", "--sequence_parallel_size 10", "9 query heads"},
      {{"--output_dir", at("model")}, 1, "train", "--output_dir", "--overwrite_output_dir"},
      {{"--output_dir", at("text.txt")}, 1, "train", "--output_dir", "expected a folder"},
  };
  for (const Case& bad : cases)
    EXPECT_THAT(check(bad.words, bad.world_size, bad.command),
                Contains(AllOf(HasSubstr(bad.names), HasSubstr(bad.expects))))
        << bad.names;
}

TEST_F(CheckSettings, TheProposedCommandIsComplete) {
  const std::string file = folder_.write("my run.yaml", "sequence_parallel_size: 2\n");
  Problems problems;
  const ResolvedSettings settings = resolve_settings(file, {"--seed", "1"}, problems);
  check_settings(settings, 1, problems);
  EXPECT_THAT(problems.list(), Contains(HasSubstr("type: ithaca train '" + file + "' --seed 1 --nproc 2")));
}

TEST_F(CheckSettings, TheProposedCommandRepeatsNoFlag) {
  Problems problems;
  const ResolvedSettings settings =
      resolve_settings({}, {"--nproc-per-node=4", "--sequence_parallel_size", "3"}, problems);
  check_settings(settings, 4, problems);
  EXPECT_THAT(problems.list(),
              Contains(AllOf(HasSubstr("type: ithaca train --sequence_parallel_size 3 --nproc 3"),
                             Not(HasSubstr("--nproc-per-node=4 --seq")))));
}

TEST_F(CheckSettings, OutputFolderWithCheckpointIsResumed) {
  folder_.write("out/checkpoint-3/x", "");
  EXPECT_THAT(check({}, 1), IsEmpty());
  EXPECT_THAT(check({"--resume_from_checkpoint", "true"}, 1), IsEmpty());
  EXPECT_THAT(check({"--resume_from_checkpoint", "false"}, 1),
              Contains(HasSubstr("another run's checkpoints")));
  EXPECT_THAT(check({"--resume_from_checkpoint", "false", "--overwrite_output_dir"}, 1), IsEmpty());
}

TEST_F(CheckSettings, HalfWrittenCheckpointIsNone) {
  folder_.write("out/checkpoint-3.tmp.77/x", "");
  EXPECT_THAT(check({}, 1), Contains(HasSubstr("no checkpoint to go on from")));
}

}  // namespace
}  // namespace ithaca
