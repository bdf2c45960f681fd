#include "ithaca/config/settings.h"

#include <gmock/gmock.h>

#include "ithaca/base/file.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Words = std::vector<std::string>;

ResolvedSettings from_text(std::string_view text, const Words& arguments = {},
                           const std::string& name = "run.yaml") {
  Problems problems;
  ResolvedSettings resolved = resolve_settings_text(text, name, arguments, problems);
  EXPECT_THAT(problems.list(), IsEmpty());
  return resolved;
}

ResolvedSettings from_words(const Words& arguments) {
  return resolve_settings({}, arguments);
}

// Renaming or dropping a setting breaks users' files: do it knowingly, with an alias.
TEST(Settings, NamesAreFrozen) {
  EXPECT_THAT(
      setting_names(),
      ElementsAre("stage", "model_name_or_path", "train_from_scratch", "attention", "sliding_window",
                  "position_embedding", "causal", "sparse_attention.mode", "sparse_attention.block",
                  "sparse_attention.num_local_blocks", "sparse_attention.num_global_blocks",
                  "sparse_attention.mask_file", "train_file", "eval_file", "packing", "cutoff_len",
                  "max_samples", "overwrite_cache", "disable_shuffling", "cache_dir", "max_steps",
                  "num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size",
                  "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "warmup_steps",
                  "warmup_ratio", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
                  "optim", "bf16", "seed", "gradient_checkpointing", "eval_steps", "max_eval_tokens",
                  "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "logging_steps",
                  "save_steps", "save_total_limit", "plot_loss", "sequence_parallel_size",
                  "sequence_parallel_method", "ulysses_degree", "sequence_parallel_order", "cp_window_size",
                  "ulysses_chunks", "tensor_parallel_size", "nproc", "threads_per_rank", "ddp_timeout",
                  "prompt", "max_new_tokens", "apply_chat_template", "add_special_tokens", "do_sample"));
}

TEST(Settings, DefaultsAreThoseOfTheStruct) {
  const ResolvedSettings resolved = from_words({});
  EXPECT_EQ(resolved.values.cutoff_len, 2048);
  EXPECT_EQ(resolved.values.learning_rate, 5e-5);
  EXPECT_EQ(resolved.values.logging_steps, 500);
  EXPECT_EQ(resolved.values.save_steps, 500);
  EXPECT_FALSE(resolved.values.plot_loss);
  EXPECT_EQ(resolved.values.per_device_eval_batch_size, 8);
  EXPECT_EQ(resolved.values.max_new_tokens, 1024);
  EXPECT_EQ(resolved.origin.size(), setting_names().size());
  EXPECT_FALSE(resolved.is_given("cutoff_len"));
  EXPECT_EQ(resolved.as_typed("cutoff_len"), "cutoff_len 2048 (default)");
}

TEST(Settings, TheLastWinsAndKeepsItsOrigin) {
  const ResolvedSettings resolved = from_text("# comment\ncutoff_len: 512\nseed: 1\nbf16: true\n",
                                              {"--cutoff_len", "1024", "seed=7", "--cutoff_len=4096"});
  EXPECT_EQ(resolved.values.cutoff_len, 4096);
  EXPECT_EQ(resolved.values.seed, 7);
  EXPECT_TRUE(resolved.values.bf16);
  EXPECT_EQ(resolved.origin.at("cutoff_len"), "--cutoff_len");
  EXPECT_EQ(resolved.origin.at("seed"), "seed");
  EXPECT_EQ(resolved.origin.at("bf16"), "run.yaml:4");
  EXPECT_EQ(resolved.origin.at("packing"), "default");
  EXPECT_EQ(resolved.as_typed("bf16"), "run.yaml:4: bf16: true");
  EXPECT_EQ(resolved.as_typed("cutoff_len"), "--cutoff_len=4096");
  EXPECT_EQ(resolved.typed_with("nproc", "2"),
            " run.yaml --cutoff_len 1024 seed=7 --cutoff_len=4096 --nproc 2");
  EXPECT_EQ(resolved.typed_with("cutoff_len", "8"), " run.yaml seed=7 --cutoff_len 8");
}

TEST(Settings, AliasesAndDashes) {
  EXPECT_EQ(from_words({"--ds-sequence-parallel-size", "4"}).values.sequence_parallel_size, 4);
  EXPECT_EQ(from_words({"--context-parallel-size=3"}).values.sequence_parallel_size, 3);
  EXPECT_EQ(from_words({"--sequence-parallel-size", "2"}).values.sequence_parallel_size, 2);
  EXPECT_EQ(from_words({"--tensor-model-parallel-size", "1"}).values.tensor_parallel_size, 1);
  EXPECT_EQ(from_words({"--nproc-per-node", "2"}).values.nproc, 2);
  EXPECT_EQ(from_text("context_parallel_size: 2").values.sequence_parallel_size, 2);
  EXPECT_EQ(from_words({"--ds-sequence-parallel-size", "4"}).origin.at("sequence_parallel_size"),
            "--ds-sequence-parallel-size");
}

TEST(Settings, ValuesThatAreTheStateOfAffairsAreAccepted) {
  const ResolvedSettings resolved =
      from_words({"--use-cp-send-recv-overlap", "--use-fused-ring-attention-update", "true",
                  "--attention-mask-type", "causal", "--fp16", "False", "--zero_stage", "1",
                  "--finetuning_type", "full", "--do_train", "--seed", "3"});
  EXPECT_EQ(resolved.values.seed, 3);
}

TEST(Settings, TwoSpellingsOfOneValueAreNoConflict) {
  EXPECT_EQ(from_words({"--sequence_parallel_size", "4", "--context-parallel-size", "4.0"})
                .values.sequence_parallel_size,
            4);
  // the command line may correct the file in other words
  EXPECT_EQ(from_text("sequence_parallel_size: 2", {"--ds-sequence-parallel-size", "4"})
                .values.sequence_parallel_size,
            4);
}

TEST(Settings, AlgorithmsOfTheFieldAreMethods) {
  const std::pair<const char*, const char*> cases[] = {{"ulysses_cp_algo", "ulysses"},
                                                       {"megatron_cp_algo", "ring"},
                                                       {"hybrid_cp_algo", "hybrid"},
                                                       {"kvallgather_cp_algo", "kv_allgather"}};
  for (const auto& [theirs, ours] : cases) {
    const ResolvedSettings resolved =
        from_words({"--context-parallel-size", "4", "--context-parallel-algo", theirs});
    EXPECT_EQ(resolved.values.sequence_parallel_method, ours);
    EXPECT_EQ(resolved.as_typed("sequence_parallel_method"), str("--context-parallel-algo ", theirs));
    EXPECT_EQ(from_text(str("context_parallel_algo: ", theirs)).values.sequence_parallel_method, ours);
  }
  const ResolvedSettings grid =
      from_words({"--context-parallel-size", "8", "--context-parallel-algo", "hybrid_cp_algo",
                  "--ulysses-degree-in-cp", "2", "--cp-window-size", "2"});
  EXPECT_EQ(grid.values.sequence_parallel_size, 8);
  EXPECT_EQ(grid.values.ulysses_degree, 2);
  EXPECT_EQ(grid.values.cp_window_size, 2);
  EXPECT_EQ(from_words({"--cp-comm-type", "p2p"}).values.sequence_parallel_method, "ring");
  EXPECT_EQ(from_words({"--cp-comm-type=a2a+p2p"}).values.sequence_parallel_method, "hybrid");
  EXPECT_EQ(from_words({"--position-embedding-type", "alibi"}).values.position_embedding, "alibi");
}

TEST(Settings, SizesOfTheFieldMeanUlysses) {
  EXPECT_EQ(from_words({"--sequence-parallel-size", "4"}).values.sequence_parallel_method, "auto");
  const ResolvedSettings context = from_words({"--context-parallel-size", "4"});
  EXPECT_EQ(context.values.sequence_parallel_method, "ulysses");
  EXPECT_EQ(context.as_typed("sequence_parallel_method"), "--context-parallel-size 4");
  const ResolvedSettings deepspeed = from_words({"--ds-sequence-parallel-size", "4"});
  EXPECT_EQ(deepspeed.values.sequence_parallel_method, "ulysses");
  EXPECT_EQ(deepspeed.origin.at("sequence_parallel_method"), "--ds-sequence-parallel-size");
  EXPECT_EQ(from_words({"--context-parallel-size", "4", "--sequence_parallel_method", "ring"})
                .values.sequence_parallel_method,
            "ring");
  EXPECT_EQ(from_words({"--context-parallel-size", "1"}).values.sequence_parallel_method, "auto");
  EXPECT_EQ(from_words({"--ds-sequence-parallel-size", "1", "--sequence_parallel_method", "ring"})
                .values.sequence_parallel_method,
            "ring");
  // a later size in our own words takes the meaning back
  EXPECT_EQ(from_text("context_parallel_size: 2", {"--sequence_parallel_size", "4"})
                .values.sequence_parallel_method,
            "auto");
}

TEST(Settings, FlashFlagsChooseTheKernel) {
  struct Case {
    Words words;
    const char* kernel;
  };
  const Case cases[] = {{{"--use-flash-attn"}, "flash"},        {{"--use_flash_attn", "false"}, "auto"},
                        {{"--use-flash-attn-triton"}, "flash"}, {{"--flash_attn"}, "flash"},
                        {{"--flash_attn", "True"}, "flash"},    {{"--flash_attn", "fa2"}, "flash"},
                        {{"--flash_attn", "False"}, "naive"},   {{"--flash_attn", "disabled"}, "naive"},
                        {{"--flash_attn", "sdpa"}, "aten"},     {{"--flash_attn", "auto"}, "auto"},
                        {{"--attention", "ithaca"}, "ithaca"}};
  for (const Case& one : cases)
    EXPECT_EQ(from_words(one.words).values.attention, one.kernel) << one.words.back();
  EXPECT_THAT(from_words({"--use-flash-attn-triton"}).notes,
              ElementsAre(HasSubstr("--use-flash-attn-triton: there is no Triton")));
  EXPECT_THAT(from_words({"--use-flash-attn"}).notes, IsEmpty());
  // two spellings of one kernel
  EXPECT_EQ(from_words({"--use-flash-attn", "--flash_attn", "fa2"}).values.attention, "flash");
}

TEST(Settings, NumbersWithAWord) {
  EXPECT_EQ(from_words({"--ulysses_degree", "auto"}).values.ulysses_degree, 0);
  EXPECT_EQ(from_words({"--ulysses_degree", "3"}).values.ulysses_degree, 3);
  EXPECT_EQ(from_words({}).values.sliding_window, -1);
  EXPECT_EQ(from_text("sliding_window: 0").values.sliding_window, 0);
  EXPECT_EQ(from_text("sliding_window: 64", {"--sliding_window", "config"}).values.sliding_window, -1);
  EXPECT_THAT(settings_to_yaml(from_words({})), testing::AllOf(HasSubstr("sliding_window: config  # default"),
                                                               HasSubstr("ulysses_degree: auto  # default")));
}

TEST(Settings, AGroupIsAMappingInAFileAndDottedOnTheCommandLine) {
  const std::string yaml =
      "seed: 1\nsparse_attention:\n  mode: fixed\n  block: 64\n  num-local-blocks: 8\ncausal: false\n";
  for (const ResolvedSettings& resolved :
       {from_text(yaml),
        from_text("sparse-attention: {mode: fixed, block: 64, num_local_blocks: 8}\ncausal: false"),
        from_text(
            R"({"sparse_attention": {"mode": "fixed", "block": 64, "num_local_blocks": 8}, "causal": false})",
            {}, "a.json"),
        from_words({"--sparse_attention", "fixed", "--sparse-attention.block", "64",
                    "sparse_attention.num_local_blocks=8", "--causal", "false"})}) {
    EXPECT_EQ(resolved.values.sparse_attention_mode, "fixed");
    EXPECT_EQ(resolved.values.sparse_attention_block, 64);
    EXPECT_EQ(resolved.values.sparse_attention_num_local_blocks, 8);
    EXPECT_EQ(resolved.values.sparse_attention_num_global_blocks, 1);
    EXPECT_FALSE(resolved.values.causal);
  }
  EXPECT_EQ(from_text(yaml).origin.at("sparse_attention.block"), "run.yaml:4");
  EXPECT_EQ(from_text(yaml, {"--sparse_attention.block", "32"}).values.sparse_attention_block, 32);
  EXPECT_EQ(from_text(settings_to_yaml(from_text(yaml))).values.sparse_attention_block, 64);
  EXPECT_EQ(from_text("sparse_attention: {block: null}").values.sparse_attention_block, 16);
}

TEST(Settings, BooleanForms) {
  for (const Words& yes : {Words{"--bf16"},
                           {"--bf16", "True"},
                           {"--bf16=true"},
                           {"bf16=yes"},
                           {"--bf16", "1"},
                           {"--bf16", "ON"}})
    EXPECT_TRUE(from_words(yes).values.bf16) << yes.back();
  for (const Words& no :
       {Words{"--packing", "False"}, {"--packing=false"}, {"packing=no"}, {"--packing", "0"}})
    EXPECT_FALSE(from_words(no).values.packing) << no.back();
  const ResolvedSettings two = from_words({"--bf16", "seed=5", "--packing", "--cutoff_len", "8"});
  EXPECT_TRUE(two.values.bf16);
  EXPECT_EQ(two.values.seed, 5);
  EXPECT_EQ(two.values.cutoff_len, 8);
}

TEST(Settings, WordsThatAreAlsoBooleans) {
  EXPECT_EQ(from_words({"--gradient_checkpointing"}).values.gradient_checkpointing, "full");
  EXPECT_EQ(from_words({"--gradient_checkpointing", "True"}).values.gradient_checkpointing, "full");
  EXPECT_EQ(from_words({"--gradient_checkpointing", "keep_attention"}).values.gradient_checkpointing,
            "keep_attention");
  EXPECT_EQ(from_text("gradient_checkpointing: no").values.gradient_checkpointing, "false");
  EXPECT_EQ(from_words({"--resume_from_checkpoint"}).values.resume_from_checkpoint, "true");
  EXPECT_EQ(from_words({"--resume_from_checkpoint", "out/checkpoint-3"}).values.resume_from_checkpoint,
            "out/checkpoint-3");
}

TEST(Settings, NumbersAsPeopleWriteThem) {
  EXPECT_EQ(from_text("max_samples: 5e8").values.max_samples, 500000000);
  EXPECT_EQ(from_text("cutoff_len: \"8\"").values.cutoff_len, 8);
  EXPECT_EQ(from_text("cutoff_len: 8.0").values.cutoff_len, 8);
  EXPECT_EQ(from_text(R"({"max_samples": 5e8, "learning_rate": "1e-4", "bf16": true})", {}, "a.json")
                .values.max_samples,
            500000000);
  EXPECT_EQ(from_words({"--max_steps", "-1"}).values.max_steps, -1);
  EXPECT_EQ(from_words({"--learning_rate", "+1E-3"}).values.learning_rate, 1e-3);
  EXPECT_EQ(from_text("ddp_timeout: 180000000").values.ddp_timeout, 180000000);
}

TEST(Settings, WarmupStepsBelowOneAreARatio) {
  const ResolvedSettings share = from_text("warmup_steps: 0.1");
  EXPECT_EQ(share.values.warmup_steps, 0);
  EXPECT_EQ(share.values.warmup_ratio, 0.1);
  EXPECT_EQ(share.as_typed("warmup_ratio"), "run.yaml:1: warmup_steps: 0.1");
  const ResolvedSettings steps = from_text("warmup_steps: 0.1", {"--warmup_steps", "20"});
  EXPECT_EQ(steps.values.warmup_steps, 20);
  EXPECT_EQ(steps.values.warmup_ratio, 0);
  const ResolvedSettings back = from_text("warmup_steps: 20", {"--warmup-steps=0.25"});
  EXPECT_EQ(back.values.warmup_steps, 0);
  EXPECT_EQ(back.values.warmup_ratio, 0.25);
  EXPECT_EQ(from_text("warmup_ratio: 0.5", {"--warmup_steps", "0.25"}).values.warmup_ratio, 0.25);
  EXPECT_EQ(from_text("warmup_steps: 1").values.warmup_steps, 1);
}

TEST(Settings, ModelFolder) {
  EXPECT_EQ(model_folder(from_words({"--model_name_or_path", "a/b"}).values), "a/b");
  EXPECT_EQ(model_folder(from_words({"--model_name_or_path", "a/config.json"}).values), "a");
  EXPECT_EQ(model_folder(from_words({"--model_name_or_path", "config.json"}).values), ".");
}

TEST(Settings, NullLeavesTheDefault) {
  EXPECT_EQ(from_text("cutoff_len: null\nseed:\neval_file: ~\n").values.cutoff_len, 2048);
  EXPECT_EQ(from_text("train_file: \"null\"").values.train_file, "null");
  EXPECT_EQ(from_text(R"({"seed": null})", {}, "a.json").values.seed, 42);
  EXPECT_EQ(from_text("").values.seed, 42);
  EXPECT_EQ(from_text("# only a comment\n").values.seed, 42);
}

TEST(Settings, JsonOriginsNameTheLine) {
  const ResolvedSettings resolved =
      from_text("{\n \"prompt\": \"seed\",\n \"seed\" : 5\n}", {}, "dir/a.json");
  EXPECT_EQ(resolved.origin.at("seed"), "dir/a.json:3");
  EXPECT_EQ(resolved.origin.at("prompt"), "dir/a.json:2");
}

TEST(Settings, SavedYamlReadsBackToTheSameValues) {
  const Words words = {"--prompt",
                       "two\nlines: # \"quoted\" \xC3\xA9\x01",
                       "--model_name_or_path",
                       "null",
                       "--train_file",
                       "- x",
                       "--learning_rate",
                       "0.1",
                       "--adam_beta2",
                       "0.95",
                       "--max_steps",
                       "-1",
                       "--bf16",
                       "--output_dir",
                       "a b",
                       "--eval_file",
                       "[x]"};
  const ResolvedSettings first = from_words(words);
  const std::string saved = settings_to_yaml(first);
  const ResolvedSettings second = from_text(saved);
  EXPECT_EQ(second.values.prompt, first.values.prompt);
  EXPECT_EQ(second.values.model_name_or_path, "null");
  EXPECT_EQ(second.values.train_file, "- x");
  EXPECT_EQ(second.values.learning_rate, 0.1);
  EXPECT_EQ(second.values.adam_beta2, 0.95);
  EXPECT_EQ(second.values.output_dir, "a b");
  EXPECT_EQ(second.values.eval_file, "[x]");
  EXPECT_THAT(saved, HasSubstr("bf16: true  # --bf16\n"));
  EXPECT_THAT(saved, HasSubstr("cutoff_len: 2048  # default\n"));
}

TEST(Settings, FileIsReadFromDisk) {
  const TemporaryFolder folder;
  const std::string file = folder.write("run.yaml", "seed: 9\n");
  const ResolvedSettings resolved = resolve_settings(file, {"--cutoff_len", "16"});
  EXPECT_EQ(resolved.values.seed, 9);
  EXPECT_EQ(resolved.origin.at("seed"), file + ":1");
  EXPECT_THROW(resolve_settings(folder.path() / "absent.yaml", {}), UserError);
}

TEST(Settings, SplitArguments) {
  EXPECT_EQ(split_arguments({"run.yaml", "--seed", "1"}).file, "run.yaml");
  EXPECT_THAT(split_arguments({"run.yaml", "--seed", "1"}).arguments, ElementsAre("--seed", "1"));
  EXPECT_TRUE(split_arguments({"--seed", "1"}).file.empty());
  EXPECT_TRUE(split_arguments({"seed=1"}).file.empty());
  EXPECT_TRUE(split_arguments({}).file.empty());
  const TemporaryFolder folder;
  EXPECT_FALSE(split_arguments({folder.write("a=b.yaml", "seed: 1")}).file.empty());
}

TEST(Settings, HelpNamesEachSettingAndTheDocsAreUpToDate) {
  const std::string help = settings_help(""), markdown = settings_markdown();
  for (const std::string& name : setting_names()) {
    EXPECT_THAT(help, HasSubstr("--" + name + " "));
    EXPECT_THAT(markdown, HasSubstr("| `" + name + "` |"));
  }
  EXPECT_EQ(settings_help("no such group"), "");
  EXPECT_EQ(read_file(ITHACA_SOURCE_DIR "/docs/settings.md", 1 << 20), markdown)
      << "write it again: ithaca help settings --markdown > docs/settings.md";
}

}  // namespace
}  // namespace ithaca
