// Every way to write a setting wrongly: the message names where and what, and says what was expected.
#include <gmock/gmock.h>

#include "ithaca/config/settings.h"
#include "tests/config/tiny_config.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::AllOf;
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
      {"a.yaml", "sparse_attention: [fixed]", "a.yaml:1: sparse_attention is a list", "one value"},
      {"a.yaml", "sparse_attention: {mode: [fixed]}", "a.yaml:1: sparse_attention.mode is a list",
       "one value"},
      {"a.yaml", "sparse_attention: {a: {b: 1}}\nsed: 1", "a.yaml:2: sed", "seed"},
      {"a.yaml", "sparse_attention:\n  blok: 4", "a.yaml:2: sparse_attention.blok", "sparse_attention.block"},
      {"a.yaml", "sparse_attention: {block: 4}\nsparse_attention: {block: 5}", "sparse_attention.block",
       "given twice"},
      {"a.yaml", "sparse_attention: bigbird", "sparse_attention: bigbird", "comes later"},
      {"a.yaml", "sparse_attention: {block: 0}", "sparse_attention.block: 0", "from 1"},
      {"a.json", R"({"sparse_attention": {"block": [1]}})", "sparse_attention.block is a list", "one value"},
      {"a.json", R"({"sparse_attention": {"block": {"a": 1}}})", "sparse_attention.block is an object",
       "one value"},
      {"a.yaml", "sliding_window: -1", "sliding_window: -1", "an integer from 0 to 1073741824, or config"},
      {"a.yaml", "ulysses_degree: all", "ulysses_degree: all", "or auto"},
      {"a.yaml", "position_embedding: learned", "position_embedding: learned", "one of config, rope, alibi"},
      {"a.yaml", "sequence_parallel_method: magic", "sequence_parallel_method: magic", "double_ring"},
      {"a.yaml", "sequence_parallel_order: outer", "sequence_parallel_order: outer", "ring_inner"},
      {"a.yaml", "cp_window_size: 0", "cp_window_size: 0", "from 1"},
      {"a.yaml", "ulysses_chunks: 0", "ulysses_chunks: 0", "from 1"},
      {"a.yaml", "gradient_checkpointing: some", "gradient_checkpointing: some",
       "one of false, full, keep_attention"},
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
      {{"--context-parallel-algo", "adaptive_cp_algo"},
       "--context-parallel-algo adaptive_cp_algo",
       "hybrid_cp_algo, kvallgather_cp_algo (that one is not built)"},
      {{"--context-parallel-algo", "hybrid_adaptive_cp_algo"}, "hybrid_adaptive_cp_algo", "not built"},
      {{"--context-parallel-algo", "ring"}, "--context-parallel-algo ring", "one of ulysses_cp_algo"},
      {{"--context-parallel-algo"}, "--context-parallel-algo needs a value", "VALUE"},
      {{"--context-parallel-algo", "megatron_cp_algo", "--sequence_parallel_method", "ulysses"},
       "--context-parallel-algo megatron_cp_algo",
       "--sequence_parallel_method ulysses"},
      {{"--context-parallel-algo", "megatron_cp_algo", "--cp-comm-type", "a2a"},
       "--context-parallel-algo megatron_cp_algo",
       "--cp-comm-type a2a"},
      {{"--ds-sequence-parallel-size", "4", "--sequence_parallel_method", "ring"},
       "--ds-sequence-parallel-size 4",
       "--sequence_parallel_method ring"},
      {{"--ulysses_degree", "2", "--ulysses-degree-in-cp", "4"},
       "--ulysses_degree 2",
       "--ulysses-degree-in-cp 4"},
      {{"--use-cp-send-recv-overlap", "false"}, "--use-cp-send-recv-overlap false", "only true is accepted"},
      {{"--attention-mask-type", "general"}, "--attention-mask-type general", "only causal is accepted"},
      {{"--flash_attn", "fa3"}, "--flash_attn fa3", "disabled (that one is not built)"},
      {{"--flash_attn", "fast"}, "--flash_attn fast", "one of auto, true, fa2"},
      {{"--use-flash-attn", "maybe"}, "--use-flash-attn maybe", "one of true, false"},
      {{"--use-flash-attn", "--attention", "naive"}, "--use-flash-attn", "--attention naive"},
      {{"--use-flash-attn", "--flash_attn=sdpa"}, "--use-flash-attn", "--flash_attn=sdpa"},
      {{"--position-embedding-type", "learned_absolute"}, "learned_absolute", "one of rope, alibi"},
      {{"--num_gpus", "2"}, "--num_gpus 2: unknown setting", "`ithaca help settings` lists"},
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
  EXPECT_THAT(check({"--sequence_parallel_size", "10"}, 10), IsEmpty()) << "auto picks a hybrid";
  EXPECT_THAT(check({"--attention", "flash"}, 1), IsEmpty());
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
      {{"--attention=cudnn", "--prompt", "x"}, 1, "generate", "--attention=cudnn", "choose auto"},
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
      {{"--output_dir", at("model")}, 1, "train", "--output_dir", "--overwrite_output_dir"},
      {{"--output_dir", at("text.txt")}, 1, "train", "--output_dir", "expected a folder"},
  };
  for (const Case& bad : cases)
    EXPECT_THAT(check(bad.words, bad.world_size, bad.command),
                Contains(AllOf(HasSubstr(bad.names), HasSubstr(bad.expects))))
        << bad.names;
}

// The model has 9 query heads. Each case names what is wrong as typed, and what to type.
TEST_F(CheckSettings, SequenceParallelismThatCannotBe) {
  struct Case {
    Words words;
    std::string names, expects;
  };
  const std::vector<Case> cases = {
      {{"--ulysses_degree", "2"},
       "--ulysses_degree 2 with sequence_parallel_size 1 (default)",
       "multiple of it"},
      {{"--cp_window_size", "2"}, "--cp_window_size 2 with sequence_parallel_size 1 (default)", "no ring"},
      {{"--sequence_parallel_size", "8", "--ulysses_degree", "3"},
       "--ulysses_degree 3 with --sequence_parallel_size 8",
       "8 is not divisible by 3; expected ulysses_degree 1, 2 or 4, 8, or auto"},
      {{"--sequence_parallel_size", "2", "--ulysses_degree", "4"},
       "--ulysses_degree 4 with",
       "not divisible by 4"},
      {{"--sequence_parallel_size", "8", "--sequence_parallel_method", "ulysses", "--ulysses_degree", "2"},
       "--ulysses_degree 2 with --sequence_parallel_method ulysses",
       "--sequence_parallel_method hybrid --ulysses_degree 2 (a ring of 4 x Ulysses 2)"},
      {{"--sequence_parallel_size", "8", "--sequence_parallel_method", "ring", "--ulysses_degree", "2"},
       "--ulysses_degree 2 with --sequence_parallel_method ring",
       "the degree of ring is 1"},
      {{"--sequence_parallel_size", "4", "--sequence_parallel_method=kv_allgather", "--ulysses_degree=4"},
       "--ulysses_degree=4 with --sequence_parallel_method=kv_allgather",
       "the degree of kv_allgather is 1"},
      {{"--context-parallel-size", "8", "--context-parallel-algo", "hybrid_cp_algo"},
       "--context-parallel-algo hybrid_cp_algo: --ulysses-degree-in-cp is missing",
       "a divisor of --context-parallel-size 8, such as --ulysses-degree-in-cp 2"},
      {{"--context-parallel-size", "8", "--context-parallel-algo", "megatron_cp_algo",
        "--ulysses-degree-in-cp", "1"},
       "--ulysses-degree-in-cp 1 with --context-parallel-algo megatron_cp_algo",
       "hybrid_cp_algo"},
      {{"--context-parallel-size", "8", "--context-parallel-algo", "ulysses_cp_algo",
        "--ulysses-degree-in-cp", "8"},
       "--ulysses-degree-in-cp 8 with --context-parallel-algo ulysses_cp_algo",
       "hybrid_cp_algo"},
      {{"--context-parallel-size", "8", "--ulysses-degree-in-cp", "2"},
       "--ulysses-degree-in-cp 2 with --context-parallel-size 8, which means Ulysses",
       "--context-parallel-algo hybrid_cp_algo"},
      {{"--context-parallel-size", "8", "--ulysses_degree", "4"},
       "--ulysses_degree 4 with --context-parallel-size 8, which means Ulysses",
       "--context-parallel-algo hybrid_cp_algo --ulysses-degree-in-cp 4"},
      {{"--context-parallel-size", "16"},
       "--context-parallel-size 16: the model has 9 query heads",
       "--context-parallel-algo hybrid_cp_algo --ulysses-degree-in-cp 8 (a ring of 2 x Ulysses 8)"},
      {{"--ds-sequence-parallel-size", "12"},
       "--ds-sequence-parallel-size 12: the model has 9 query heads",
       "--sequence_parallel_method hybrid --ulysses_degree 6 (a ring of 2 x Ulysses 6)"},
      {{"--sequence_parallel_size", "11", "--ulysses_degree", "11"},
       "--ulysses_degree 11: the model has 9 query heads",
       "--sequence_parallel_method ring"},
      {{"--sequence_parallel_size", "30", "--sequence_parallel_method", "hybrid", "--ulysses_degree", "10"},
       "--ulysses_degree 10: the model has 9 query heads",
       "--ulysses_degree 6 (a ring of 5 x Ulysses 6)"},
      {{"--sequence_parallel_size", "8", "--sequence_parallel_method", "ring", "--cp-window-size", "3"},
       "--cp-window-size 3 with --sequence_parallel_size 8",
       "expected 1, 2 or 4 (the ring degree is 8"},
      {{"--sequence_parallel_size", "8", "--sequence_parallel_method", "ring", "--cp-window-size", "8"},
       "--cp-window-size 8 with --sequence_parallel_size 8",
       "expected 1, 2 or 4"},
      {{"--sequence_parallel_size", "8", "--ulysses_degree", "2", "--cp-window-size", "4"},
       "--cp-window-size 4 with --ulysses_degree 2",
       "expected 1 or 2 (the ring degree is 4"},
      {{"--sequence_parallel_size", "4", "--ulysses_degree", "4", "--cp-window-size", "2"},
       "--cp-window-size 2 with --ulysses_degree 4",
       "there is no ring"},
      {{"--ds-sequence-parallel-size", "4", "--cp-window-size", "2"},
       "--cp-window-size 2 with --ds-sequence-parallel-size 4",
       "choose ring or hybrid"},
      {{"--sequence_parallel_size", "6", "--cp-window-size", "4"},
       "--cp-window-size 4 with --sequence_parallel_size 6",
       "expected 1, 2 or 3"},
      {{"--sequence_parallel_size", "8", "--sequence_parallel_method", "double_ring"},
       "--sequence_parallel_method double_ring with cp_window_size 1 (default)",
       "above 1 of 1, 2 or 4"},
      {{"--sequence_parallel_size", "3", "--sequence_parallel_method", "double_ring"},
       "--sequence_parallel_method double_ring",
       "choose ring"},
  };
  for (const Case& bad : cases)
    EXPECT_THAT(check(bad.words, 240 * 11),
                AllOf(SizeIs(1), Contains(AllOf(HasSubstr(bad.names), HasSubstr(bad.expects)))))
        << bad.names;
}

TEST_F(CheckSettings, SequenceParallelismThatCanBe) {
  for (const Words& good : std::vector<Words>{
           {"--sequence_parallel_method", "ring"},
           {"--sequence_parallel_method", "double_ring"},  // one rank a sequence: the method is ignored
           {"--sequence_parallel_size", "8", "--sequence_parallel_method", "hybrid", "--ulysses_degree", "8"},
           {"--sequence_parallel_size", "8", "--sequence_parallel_method", "hybrid", "--ulysses_degree", "1"},
           {"--sequence_parallel_size", "8", "--sequence_parallel_method", "hybrid"},
           {"--sequence_parallel_size", "7", "--ulysses_degree", "1"},
           {"--sequence_parallel_size", "11", "--sequence_parallel_method", "kv_allgather"},
           {"--sequence_parallel_size", "16", "--ulysses_degree", "2", "--cp_window_size", "4"},
           {"--sequence_parallel_size", "8", "--sequence_parallel_method", "double_ring", "--cp_window_size",
            "4"},
           {"--context-parallel-size", "1", "--context-parallel-algo", "hybrid_cp_algo"}})
    EXPECT_THAT(check(good, 16 * 7 * 11), IsEmpty()) << testing::PrintToString(good);
}

TEST_F(CheckSettings, PatternsThatCannotBe) {
  struct Case {
    Words words;
    std::string names, expects;
  };
  const auto mask = [&](const char* name, const std::string& text) { return folder_.write(name, text); };
  const std::vector<Case> cases = {
      {{"--attention", "aten", "--sliding_window", "8"},
       "--sliding_window 8 with --attention aten",
       "ithaca"},
      {{"--flash_attn", "sdpa", "--sparse_attention", "fixed"},
       "--sparse_attention fixed with --flash_attn sdpa",
       "ithaca"},
      {{"--attention", "aten", "--position_embedding", "alibi", "--train_from_scratch"},
       "--position_embedding alibi with --attention aten",
       "ithaca"},
      {{"--position_embedding", "alibi"}, "--position_embedding alibi", "trained with rope"},
      {{"--sparse_attention.block", "8"},
       "--sparse_attention.block 8 with sparse_attention.mode dense (default)",
       "sparse_attention.mode fixed or mask"},
      {{"--sparse_attention.mask_file", "m"}, "--sparse_attention.mask_file m", "sparse_attention.mode mask"},
      {{"--sparse_attention", "fixed", "--sparse_attention.num_global_blocks", "5"},
       "--sparse_attention.num_global_blocks 5 with sparse_attention.num_local_blocks 4 (default)",
       "at most as many"},
      {{"--sparse_attention", "mask"}, "mask_file is missing", "--sparse_attention mask"},
      {{"--sparse_attention", "mask", "--sparse_attention.mask_file", "gone"},
       "mask_file gone",
       "no such file"},
      {{"--sparse_attention", "mask", "--sparse_attention.mask_file", mask("a.txt", "10\n1x\n")},
       "a.txt:2",
       "zeros and ones"},
      {{"--sparse_attention", "mask", "--sparse_attention.mask_file", mask("b.txt", "10\n111\n")},
       "b.txt:2: 3 blocks",
       "expected 2"},
      {{"--sparse_attention", "mask", "--sparse_attention.mask_file", mask("c.txt", "10\n11\n11\n")},
       "c.txt:3",
       "the mask is square"},
      {{"--sparse_attention", "mask", "--sparse_attention.mask_file", mask("d.txt", "100\n110\n")},
       "d.txt: 2 lines",
       "the mask is square"},
      {{"--sparse_attention", "mask", "--sparse_attention.mask_file", mask("e.txt", "# nothing\n\n")},
       "e.txt",
       "no zeros and ones"},
      {{"--sparse_attention", "mask", "--sparse_attention.mask_file", mask("f.txt", std::string(5000, '1'))},
       "f.txt:1",
       "more than 4096"},
      {{"--sparse_attention", "mask", "--sparse_attention.mask_file", mask("g.txt", "10\n11\n"),
        "--cutoff_len", "33"},
       "g.txt: its blocks cover 32 tokens",
       "at least 3 blocks"},
  };
  for (const Case& bad : cases)
    EXPECT_THAT(check(bad.words, 1),
                AllOf(SizeIs(1), Contains(AllOf(HasSubstr(bad.names), HasSubstr(bad.expects)))))
        << bad.names;
}

TEST_F(CheckSettings, PatternsThatCanBe) {
  const std::string mask = folder_.write("good.txt", "1 0 # the first block\n1, 1\n");
  for (const Words& good :
       std::vector<Words>{{"--position_embedding", "alibi", "--train_from_scratch"},
                          {"--position_embedding", "rope"},
                          {"--sliding_window", "8", "--sparse_attention", "fixed", "--causal", "no"},
                          {"--sparse_attention", "mask", "--sparse_attention.mask_file", mask,
                           "--sparse_attention.block", "128", "--cutoff_len", "256"}})
    EXPECT_THAT(check(good, 1), IsEmpty()) << testing::PrintToString(good);
  // what a run saves can be given again
  Problems problems;
  const std::string saved = folder_.write("saved.yaml", settings_to_yaml(resolve_settings({}, good())));
  check_settings(resolve_settings(saved, {}, problems), 1, problems);
  EXPECT_THAT(problems.list(), IsEmpty());
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

TEST_F(CheckSettings, WhatARunThatWasKilledBeforeItsFirstCheckpointLeftIsNoObstacle) {
  for (const char* name :
       {"out/checkpoint-3.tmp.77/x", "out/model.tmp.77-1/config.json", "out/logs/rank_0.log",
        "out/resolved_settings.yaml", "out/trainer_log.jsonl", "out/config.json.tmp.7-7"})
    folder_.write(name, "");
  EXPECT_THAT(check({}, 1), IsEmpty());
  EXPECT_THAT(check({"--resume_from_checkpoint", "true"}, 1), Contains(HasSubstr("no checkpoint-N")));
  folder_.write("out/model.safetensors", "");
  EXPECT_THAT(check({}, 1), Contains(HasSubstr("no checkpoint to go on from")));
}

}  // namespace
}  // namespace ithaca
