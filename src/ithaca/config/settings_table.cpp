#include "ithaca/config/settings_table.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

namespace ithaca {
namespace {

using S = Settings;
constexpr double kMaxCount = 9007199254740992.0;  // 2^53: exact as a double too
constexpr double kMaxRanks = 1 << 20;

constexpr SettingInfo kSettings[] = {
    {.name = "stage",
     .group = "model",
     .member = &S::stage,
     .help =
         "what is trained: pt, plain causal language modelling (sft, LLaMA-Factory's default, comes later)",
     .choices = "pt",
     .later = "sft|rm|ppo|dpo|kto"},
    {.name = "model_name_or_path",
     .group = "model",
     .member = &S::model_name_or_path,
     .help = "Hugging Face model folder (a GGUF file becomes one with `ithaca convert`)"},
    {.name = "train_from_scratch",
     .group = "model",
     .member = &S::train_from_scratch,
     .help = "weights drawn from the seed; model_name_or_path is a folder with config.json, or that file"},
    {.name = "attention",
     .group = "model",
     .member = &S::attention,
     .help = "attention kernel; flash and cudnn need an NVIDIA GPU, which is not used yet",
     .choices = "auto|naive|aten|flash|cudnn"},

    {.name = "train_file",
     .group = "data",
     .member = &S::train_file,
     .help = ".txt (one document) or .jsonl (key text, one document a line)"},
    {.name = "eval_file",
     .group = "data",
     .member = &S::eval_file,
     .help = "held-out text in the same forms"},
    {.name = "packing",
     .group = "data",
     .member = &S::packing,
     .help = "lay documents one after another into rows of cutoff_len; false: a document a row, padded"},
    {.name = "cutoff_len",
     .group = "data",
     .member = &S::cutoff_len,
     .help = "tokens per row",
     .minimum = 2,
     .maximum = 1 << 30},
    {.name = "max_samples",
     .group = "data",
     .member = &S::max_samples,
     .help = "take only the first n documents of the file, before packing; 0: all",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "overwrite_cache",
     .group = "data",
     .member = &S::overwrite_cache,
     .help = "tokenise again even if cached"},
    {.name = "disable_shuffling",
     .group = "data",
     .member = &S::disable_shuffling,
     .help = "keep the order of the file"},
    {.name = "cache_dir",
     .group = "data",
     .member = &S::cache_dir,
     .help = "folder of tokenised data; empty: ITHACA_CACHE or ~/.cache/ithaca"},

    {.name = "max_steps",
     .group = "training",
     .member = &S::max_steps,
     .help = "optimizer steps; -1: as num_train_epochs says",
     .minimum = -1,
     .maximum = kMaxCount},
    {.name = "num_train_epochs",
     .group = "training",
     .member = &S::num_train_epochs,
     .help = "passes over the data",
     .minimum = 0,
     .maximum = 1e9,
     .above_minimum = true},
    {.name = "per_device_train_batch_size",
     .group = "training",
     .member = &S::per_device_train_batch_size,
     .help = "rows per replica (not per process) and micro-batch",
     .minimum = 1,
     .maximum = kMaxRanks},
    {.name = "per_device_eval_batch_size",
     .group = "training",
     .member = &S::per_device_eval_batch_size,
     .help = "rows per replica in evaluation",
     .minimum = 1,
     .maximum = kMaxRanks},
    {.name = "gradient_accumulation_steps",
     .group = "training",
     .member = &S::gradient_accumulation_steps,
     .help = "micro-batches per step",
     .minimum = 1,
     .maximum = kMaxRanks},
    {.name = "learning_rate",
     .group = "training",
     .member = &S::learning_rate,
     .help = "peak learning rate",
     .minimum = 0,
     .maximum = 1e6,
     .above_minimum = true},
    {.name = "lr_scheduler_type",
     .group = "training",
     .member = &S::lr_scheduler_type,
     .help = "course of the learning rate",
     .choices = "linear|cosine|constant|constant_with_warmup"},
    {.name = "warmup_steps",
     .group = "training",
     .member = &S::warmup_steps,
     .help = "steps of linear warmup; a number below 1 is taken as warmup_ratio",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "warmup_ratio",
     .group = "training",
     .member = &S::warmup_ratio,
     .help = "the same as a share of all steps",
     .minimum = 0,
     .maximum = 1},
    {.name = "weight_decay",
     .group = "training",
     .member = &S::weight_decay,
     .help = "of matrices; biases and norms have none",
     .minimum = 0,
     .maximum = 1e6},
    {.name = "adam_beta1",
     .group = "training",
     .member = &S::adam_beta1,
     .help = "AdamW's first moment",
     .minimum = 0,
     .maximum = 0.999999},
    {.name = "adam_beta2",
     .group = "training",
     .member = &S::adam_beta2,
     .help = "AdamW's second moment",
     .minimum = 0,
     .maximum = 0.99999999},
    {.name = "adam_epsilon",
     .group = "training",
     .member = &S::adam_epsilon,
     .help = "AdamW's epsilon",
     .minimum = 0,
     .maximum = 1,
     .above_minimum = true},
    {.name = "max_grad_norm",
     .group = "training",
     .member = &S::max_grad_norm,
     .help = "clip by global norm; 0: never",
     .minimum = 0,
     .maximum = 1e30},
    {.name = "optim",
     .group = "training",
     .member = &S::optim,
     .help = "optimizer",
     .choices = "adamw_torch_fused|adamw_torch|sgd"},
    {.name = "bf16",
     .group = "training",
     .member = &S::bf16,
     .help = "bf16 weights and activations, float32 master weights, moments and sums"},
    {.name = "seed",
     .group = "training",
     .member = &S::seed,
     .help = "of data order and fresh weights",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "gradient_checkpointing",
     .group = "training",
     .member = &S::gradient_checkpointing,
     .help = "activation checkpointing per layer (true is full); false unless asked for, unlike "
             "LLaMA-Factory: it repeats "
             "the forward pass",
     .choices = "false|full",
     .later = "keep_attention",
     .boolean_words = true},

    {.name = "eval_steps",
     .group = "evaluation",
     .member = &S::eval_steps,
     .help = "evaluate every n steps; 0: never",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "max_eval_tokens",
     .group = "evaluation",
     .member = &S::max_eval_tokens,
     .help = "evaluate only the first tokens of eval_file; 0: all",
     .minimum = 0,
     .maximum = kMaxCount},

    {.name = "output_dir", .group = "output", .member = &S::output_dir, .help = "folder of the results"},
    {.name = "overwrite_output_dir",
     .group = "output",
     .member = &S::overwrite_output_dir,
     .help = "write into output_dir although it holds another run"},
    {.name = "resume_from_checkpoint",
     .group = "output",
     .member = &S::resume_from_checkpoint,
     .help =
         "auto (newest checkpoint in output_dir unless overwritten), true (must exist), false, or a folder",
     .boolean_words = true},
    {.name = "logging_steps",
     .group = "output",
     .member = &S::logging_steps,
     .help = "a log line every n steps",
     .minimum = 1,
     .maximum = kMaxCount},
    {.name = "save_steps",
     .group = "output",
     .member = &S::save_steps,
     .help = "a checkpoint every n steps; 0: only the end",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "save_total_limit",
     .group = "output",
     .member = &S::save_total_limit,
     .help = "newest checkpoints kept; 0: all",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "plot_loss", .group = "output", .member = &S::plot_loss, .help = "write training_loss.png"},

    {.name = "sequence_parallel_size",
     .group = "layout",
     .member = &S::sequence_parallel_size,
     .help = "ranks that share one sequence",
     .minimum = 1,
     .maximum = kMaxRanks,
     .aliases = {"ds_sequence_parallel_size", "context_parallel_size"}},
    {.name = "ulysses_degree",
     .group = "layout",
     .member = &S::ulysses_degree,
     .help = "how many of them exchange heads; 0: all (ring comes later)",
     .minimum = 0,
     .maximum = kMaxRanks},
    {.name = "tensor_parallel_size",
     .group = "layout",
     .member = &S::tensor_parallel_size,
     .help = "only 1 so far",
     .minimum = 1,
     .maximum = kMaxRanks,
     .aliases = {"tensor_model_parallel_size"}},
    {.name = "nproc",
     .group = "layout",
     .member = &S::nproc,
     .help = "local ranks to start; 0: one (training runs on the CPU so far, GPUs are not used)",
     .minimum = 0,
     .maximum = 4096,
     .aliases = {"nproc_per_node"}},
    {.name = "threads_per_rank",
     .group = "layout",
     .member = &S::threads_per_rank,
     .help = "0: cores / local ranks",
     .minimum = 0,
     .maximum = 4096},
    {.name = "ddp_timeout",
     .group = "layout",
     .member = &S::ddp_timeout,
     .help = "seconds until a silent rank counts as lost",
     .minimum = 0,
     .maximum = 1e9,
     .above_minimum = true},

    {.name = "prompt", .group = "generate", .member = &S::prompt, .help = "text to go on with"},
    {.name = "max_new_tokens",
     .group = "generate",
     .member = &S::max_new_tokens,
     .help = "tokens to generate at most",
     .minimum = 1,
     .maximum = 1 << 30},
    {.name = "apply_chat_template",
     .group = "generate",
     .member = &S::apply_chat_template,
     .help = "wrap the prompt in the model's chat template"},
    {.name = "add_special_tokens",
     .group = "generate",
     .member = &S::add_special_tokens,
     .help = "let the tokenizer add its bos and eos (ithaca tokenize)"},
    {.name = "do_sample",
     .group = "generate",
     .member = &S::do_sample,
     .help = "only false so far (LLaMA-Factory's default is true): the likeliest token each time"},
};

constexpr FixedSetting kFixed[] = {
    {"context_parallel_algo", "ulysses_cp_algo", "ring and hybrid sequence parallelism come later"},
    {"ulysses_degree_in_cp", "", "hybrid sequence parallelism comes later"},
    {"cp_window_size", "1", "ring sequence parallelism comes later"},
    {"pipeline_parallel_size", "1", "pipeline parallelism comes later"},
    {"pipeline_model_parallel_size", "1", "pipeline parallelism comes later"},
    {"zero_stage", "0", "ZeRO comes later"},
    {"deepspeed", "", "ZeRO comes later"},
    {"do_train", "true", "`ithaca train` trains; `ithaca eval` and `ithaca generate` do the rest"},
    {"fp16", "false", "float16 training comes later; bf16 exists"},
    {"finetuning_type", "full", "LoRA comes later"},
    {"lora_rank", "", "LoRA comes later"},
    {"lora_alpha", "", "LoRA comes later"},
    {"lora_dropout", "", "LoRA comes later"},
    {"lora_target", "", "LoRA comes later"},
    {"template", "", "fine-tuning on conversations (stage sft) comes later"},
    {"dataset", "", "dataset_info.json comes later; name a text or jsonl file with train_file"},
    {"dataset_dir", "", "dataset_info.json comes later; name a text or jsonl file with train_file"},
    {"flash_attn", "auto", "choose the kernel with attention"},
    {"use_flash_attn", "", "choose the kernel with attention"},
};

// Edits (insert, delete, replace, swap of neighbours) that turn a into b.
int edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<int>> cost(a.size() + 1, std::vector<int>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = static_cast<int>(i);
  std::iota(cost[0].begin(), cost[0].end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j) {
      cost[i][j] =
          std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  return cost[a.size()][b.size()];
}

}  // namespace

std::span<const SettingInfo> settings_table() {
  return kSettings;
}
std::span<const FixedSetting> fixed_settings() {
  return kFixed;
}

const SettingInfo* find_setting(std::string_view name) {
  if (name.empty()) return nullptr;  // absent aliases are empty
  for (const SettingInfo& info : kSettings)
    if (info.name == name || std::ranges::find(info.aliases, name) != info.aliases.end()) return &info;
  return nullptr;
}

const FixedSetting* find_fixed_setting(std::string_view name) {
  const auto* found = std::ranges::find(kFixed, name, &FixedSetting::name);
  return found == std::end(kFixed) ? nullptr : found;
}

std::string nearest_setting(std::string_view name) {
  name = name.substr(0, 64);  // no name is longer, and a file may hold a key of a megabyte
  std::string_view best;
  int fewest = std::numeric_limits<int>::max();
  const auto consider = [&](std::string_view known) {
    if (known.empty()) return;
    const int edits = edit_distance(name, known);
    if (edits < fewest) fewest = edits, best = known;
  };
  for (const SettingInfo& info : kSettings) {
    consider(info.name);
    for (std::string_view alias : info.aliases) consider(alias);
  }
  for (const FixedSetting& fixed : kFixed) consider(fixed.name);
  if (fewest > static_cast<int>(name.size() / 3)) return "";
  return std::string(best);
}

std::vector<std::string> setting_names() {
  std::vector<std::string> names;
  for (const SettingInfo& info : kSettings) names.emplace_back(info.name);
  return names;
}

}  // namespace ithaca
