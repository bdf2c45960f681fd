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
     .on_resume = OnResume::kSame,
     .help =
         "what is trained: pt, plain causal language modelling (sft, LLaMA-Factory's default, comes later)",
     .choices = "pt",
     .later = "sft|rm|ppo|dpo|kto"},
    {.name = "model_name_or_path",
     .group = "model",
     .member = &S::model_name_or_path,
     .on_resume = OnResume::kFree,
     .help = "Hugging Face model folder (a GGUF file becomes one with `ithaca convert`)"},
    {.name = "train_from_scratch",
     .group = "model",
     .member = &S::train_from_scratch,
     .on_resume = OnResume::kFree,
     .help = "weights drawn from the seed; model_name_or_path is a folder with config.json, or that file"},
    {.name = "attention",
     .group = "model",
     .member = &S::attention,
     .on_resume = OnResume::kRemark,
     .help =
         "attention kernel: ithaca (this project's, any pattern), aten (PyTorch's, without window, ALiBi "
         "and sparse blocks), auto (on the CPU ithaca, but aten in bf16 where it can on processors with "
         "AMX), flash (on the CPU the same as ithaca), naive (all scores in memory); cudnn needs an NVIDIA "
         "GPU, which is not used yet",
     .choices = "auto|naive|ithaca|aten|flash|cudnn"},
    {.name = "sliding_window",
     .group = "model",
     .member = &S::sliding_window,
     .on_resume = OnResume::kSame,
     .help = "a token sees this many tokens back, itself included; 0: no window; config: as config.json says",
     .minimum = 0,
     .maximum = 1 << 30,
     .word = "config",
     .word_value = -1},
    {.name = "position_embedding",
     .group = "model",
     .member = &S::position_embedding,
     .on_resume = OnResume::kSame,
     .help = "config: as config.json says; another one only with train_from_scratch",
     .choices = "config|rope|alibi"},
    {.name = "causal",
     .group = "model",
     .member = &S::causal,
     .on_resume = OnResume::kSame,
     .help = "a token sees only what is before it; false: its whole document"},
    {.name = "sparse_attention.mode",
     .group = "model",
     .member = &S::sparse_attention_mode,
     .on_resume = OnResume::kSame,
     .help = "block-sparse attention; fixed: a block sees its window of num_local_blocks and the last "
             "num_global_blocks of every window; mask: what mask_file says. In a file also as a mapping, "
             "sparse_attention: {mode: fixed, block: 64}",
     .choices = "dense|fixed|mask",
     .later = "variable|bigbird|bslongformer|local_sliding_window",
     .aliases = {"sparse_attention"}},
    {.name = "sparse_attention.block",
     .group = "model",
     .member = &S::sparse_attention_block,
     .on_resume = OnResume::kSame,
     .help = "tokens a block",
     .minimum = 1,
     .maximum = 1 << 20},
    {.name = "sparse_attention.num_local_blocks",
     .group = "model",
     .member = &S::sparse_attention_num_local_blocks,
     .on_resume = OnResume::kSame,
     .help = "blocks a window (fixed)",
     .minimum = 1,
     .maximum = 1 << 20},
    {.name = "sparse_attention.num_global_blocks",
     .group = "model",
     .member = &S::sparse_attention_num_global_blocks,
     .on_resume = OnResume::kSame,
     .help = "blocks of every window that all see (fixed)",
     .minimum = 0,
     .maximum = 1 << 20},
    {.name = "sparse_attention.mask_file",
     .group = "model",
     .member = &S::sparse_attention_mask_file,
     .on_resume = OnResume::kFree,
     .help =
         "text: a line for each block of queries, a 0 or 1 for each block of keys; causality cuts on top"},

    {.name = "train_file",
     .group = "data",
     .member = &S::train_file,
     .on_resume = OnResume::kFree,
     .help = ".txt (one document) or .jsonl (key text, one document a line)"},
    {.name = "eval_file",
     .group = "data",
     .member = &S::eval_file,
     .on_resume = OnResume::kFree,
     .help = "held-out text in the same forms"},
    {.name = "packing",
     .group = "data",
     .member = &S::packing,
     .on_resume = OnResume::kSame,
     .help = "lay documents one after another into rows of cutoff_len; false: a document a row, padded"},
    {.name = "cutoff_len",
     .group = "data",
     .member = &S::cutoff_len,
     .on_resume = OnResume::kSame,
     .help = "tokens per row",
     .minimum = 2,
     .maximum = 1 << 30},
    {.name = "max_samples",
     .group = "data",
     .member = &S::max_samples,
     .on_resume = OnResume::kFree,
     .help = "take only the first n documents of train_file and of eval_file, before packing; 0: all",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "overwrite_cache",
     .group = "data",
     .member = &S::overwrite_cache,
     .on_resume = OnResume::kFree,
     .help = "tokenise again even if cached"},
    {.name = "disable_shuffling",
     .group = "data",
     .member = &S::disable_shuffling,
     .on_resume = OnResume::kSame,
     .help = "keep the order of the file"},
    {.name = "cache_dir",
     .group = "data",
     .member = &S::cache_dir,
     .on_resume = OnResume::kFree,
     .help = "folder of tokenised data; empty: ITHACA_CACHE or ~/.cache/ithaca"},

    {.name = "max_steps",
     .group = "training",
     .member = &S::max_steps,
     .on_resume = OnResume::kFree,
     .help = "optimizer steps; -1: as num_train_epochs says",
     .minimum = -1,
     .maximum = kMaxCount},
    {.name = "num_train_epochs",
     .group = "training",
     .member = &S::num_train_epochs,
     .on_resume = OnResume::kFree,
     .help = "passes over the data",
     .minimum = 0,
     .maximum = 1e9,
     .above_minimum = true},
    {.name = "per_device_train_batch_size",
     .group = "training",
     .member = &S::per_device_train_batch_size,
     .on_resume = OnResume::kRemark,
     .help = "rows per replica (not per process) and micro-batch",
     .minimum = 1,
     .maximum = kMaxRanks},
    {.name = "per_device_eval_batch_size",
     .group = "training",
     .member = &S::per_device_eval_batch_size,
     .on_resume = OnResume::kFree,
     .help = "rows per replica in evaluation",
     .minimum = 1,
     .maximum = kMaxRanks},
    {.name = "gradient_accumulation_steps",
     .group = "training",
     .member = &S::gradient_accumulation_steps,
     .on_resume = OnResume::kRemark,
     .help = "micro-batches per step",
     .minimum = 1,
     .maximum = kMaxRanks},
    {.name = "learning_rate",
     .group = "training",
     .member = &S::learning_rate,
     .on_resume = OnResume::kRemark,
     .help = "peak learning rate",
     .minimum = 0,
     .maximum = 1e6,
     .above_minimum = true},
    {.name = "lr_scheduler_type",
     .group = "training",
     .member = &S::lr_scheduler_type,
     .on_resume = OnResume::kRemark,
     .help = "course of the learning rate",
     .choices = "linear|cosine|constant|constant_with_warmup"},
    {.name = "warmup_steps",
     .group = "training",
     .member = &S::warmup_steps,
     .on_resume = OnResume::kRemark,
     .help = "steps of linear warmup; a number below 1 is taken as warmup_ratio",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "warmup_ratio",
     .group = "training",
     .member = &S::warmup_ratio,
     .on_resume = OnResume::kRemark,
     .help = "the same as a share of all steps",
     .minimum = 0,
     .maximum = 1},
    {.name = "weight_decay",
     .group = "training",
     .member = &S::weight_decay,
     .on_resume = OnResume::kRemark,
     .help = "of matrices; biases and norms have none",
     .minimum = 0,
     .maximum = 1e6},
    {.name = "adam_beta1",
     .group = "training",
     .member = &S::adam_beta1,
     .on_resume = OnResume::kRemark,
     .help = "AdamW's first moment",
     .minimum = 0,
     .maximum = 0.999999},
    {.name = "adam_beta2",
     .group = "training",
     .member = &S::adam_beta2,
     .on_resume = OnResume::kRemark,
     .help = "AdamW's second moment",
     .minimum = 0,
     .maximum = 0.99999999},
    {.name = "adam_epsilon",
     .group = "training",
     .member = &S::adam_epsilon,
     .on_resume = OnResume::kRemark,
     .help = "AdamW's epsilon",
     .minimum = 0,
     .maximum = 1,
     .above_minimum = true},
    {.name = "max_grad_norm",
     .group = "training",
     .member = &S::max_grad_norm,
     .on_resume = OnResume::kRemark,
     .help = "clip by global norm; 0: never",
     .minimum = 0,
     .maximum = 1e30},
    {.name = "optim",
     .group = "training",
     .member = &S::optim,
     .on_resume = OnResume::kRemark,
     .help = "optimizer",
     .choices = "adamw_torch_fused|adamw_torch|sgd"},
    {.name = "bf16",
     .group = "training",
     .member = &S::bf16,
     .on_resume = OnResume::kSame,
     .help = "bf16 weights and activations, float32 master weights, moments and sums"},
    {.name = "seed",
     .group = "training",
     .member = &S::seed,
     .on_resume = OnResume::kSame,
     .help = "of data order and fresh weights",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "gradient_checkpointing",
     .group = "training",
     .member = &S::gradient_checkpointing,
     .on_resume = OnResume::kRemark,
     .help = "activation checkpointing per layer (true is full); false unless asked for, unlike "
             "LLaMA-Factory: it repeats "
             "the forward pass; keep_attention keeps what attention's backward needs and repeats the rest",
     .choices = "false|full|keep_attention",
     .boolean_words = true},

    {.name = "eval_steps",
     .group = "evaluation",
     .member = &S::eval_steps,
     .on_resume = OnResume::kFree,
     .help = "evaluate eval_file every n steps, and at the end of the run; 0: only at the end",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "max_eval_tokens",
     .group = "evaluation",
     .member = &S::max_eval_tokens,
     .on_resume = OnResume::kFree,
     .help = "evaluate only the first tokens of eval_file; 0: all",
     .minimum = 0,
     .maximum = kMaxCount},

    {.name = "output_dir",
     .group = "output",
     .member = &S::output_dir,
     .on_resume = OnResume::kFree,
     .help = "folder of the results"},
    {.name = "overwrite_output_dir",
     .group = "output",
     .member = &S::overwrite_output_dir,
     .on_resume = OnResume::kFree,
     .help = "write into output_dir although it holds another run"},
    {.name = "resume_from_checkpoint",
     .group = "output",
     .member = &S::resume_from_checkpoint,
     .on_resume = OnResume::kFree,
     .help =
         "auto (newest checkpoint in output_dir unless overwritten), true (must exist), false, or a folder",
     .boolean_words = true},
    {.name = "logging_steps",
     .group = "output",
     .member = &S::logging_steps,
     .on_resume = OnResume::kFree,
     .help = "a log line every n steps",
     .minimum = 1,
     .maximum = kMaxCount},
    {.name = "save_steps",
     .group = "output",
     .member = &S::save_steps,
     .on_resume = OnResume::kFree,
     .help = "a checkpoint every n steps; 0: only the end",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "save_total_limit",
     .group = "output",
     .member = &S::save_total_limit,
     .on_resume = OnResume::kFree,
     .help = "newest checkpoints kept; 0: all",
     .minimum = 0,
     .maximum = kMaxCount},
    {.name = "plot_loss",
     .group = "output",
     .member = &S::plot_loss,
     .on_resume = OnResume::kFree,
     .help = "write training_loss.png"},

    {.name = "sequence_parallel_size",
     .group = "layout",
     .member = &S::sequence_parallel_size,
     .on_resume = OnResume::kRemark,
     .help = "ranks that share one sequence",
     .minimum = 1,
     .maximum = kMaxRanks,
     .aliases = {"ds_sequence_parallel_size", "context_parallel_size"}},
    {.name = "sequence_parallel_method",
     .group = "layout",
     .member = &S::sequence_parallel_method,
     .on_resume = OnResume::kRemark,
     .help = "how they share it: ulysses (exchange heads), ring (keys and values go round), hybrid (both, a "
             "grid of ring x ulysses), double_ring (ring with cp_window_size), kv_allgather (every rank gets "
             "all keys and values); auto: ulysses where the heads divide, else what is estimated fastest "
             "(`ithaca check` says why)",
     .choices = "auto|ulysses|ring|hybrid|double_ring|kv_allgather"},
    {.name = "ulysses_degree",
     .group = "layout",
     .member = &S::ulysses_degree,
     .on_resume = OnResume::kRemark,
     .help = "how many of them exchange heads; the ring degree is sequence_parallel_size / ulysses_degree",
     .minimum = 0,
     .maximum = kMaxRanks,
     .word = "auto",
     .aliases = {"ulysses_degree_in_cp"}},
    {.name = "sequence_parallel_order",
     .group = "layout",
     .member = &S::sequence_parallel_order,
     .on_resume = OnResume::kRemark,
     .help = "which axis of a hybrid's grid has neighbouring ranks",
     .choices = "ulysses_inner|ring_inner"},
    {.name = "cp_window_size",
     .group = "layout",
     .member = &S::cp_window_size,
     .on_resume = OnResume::kRemark,
     .help = "ranks of the inner ring of a double ring; divides the ring degree; 1: a single ring",
     .minimum = 1,
     .maximum = kMaxRanks},
    {.name = "ulysses_chunks",
     .group = "layout",
     .member = &S::ulysses_chunks,
     .on_resume = OnResume::kRemark,
     .help = "head groups: the exchange of one runs behind the attention of the one before",
     .minimum = 1,
     .maximum = 1 << 16},
    {.name = "tensor_parallel_size",
     .group = "layout",
     .member = &S::tensor_parallel_size,
     .on_resume = OnResume::kRemark,
     .help = "only 1 so far",
     .minimum = 1,
     .maximum = kMaxRanks,
     .aliases = {"tensor_model_parallel_size"}},
    {.name = "nproc",
     .group = "layout",
     .member = &S::nproc,
     .on_resume = OnResume::kFree,
     .help = "local ranks to start; 0: one (training runs on the CPU so far, GPUs are not used)",
     .minimum = 0,
     .maximum = 4096,
     .aliases = {"nproc_per_node"}},
    {.name = "threads_per_rank",
     .group = "layout",
     .member = &S::threads_per_rank,
     .on_resume = OnResume::kFree,
     .help = "0: cores / local ranks",
     .minimum = 0,
     .maximum = 4096},
    {.name = "ddp_timeout",
     .group = "layout",
     .member = &S::ddp_timeout,
     .on_resume = OnResume::kFree,
     .help = "seconds until a silent rank counts as lost",
     .minimum = 0,
     .maximum = 1e9,
     .above_minimum = true},

    {.name = "prompt",
     .group = "generate",
     .member = &S::prompt,
     .on_resume = OnResume::kFree,
     .help = "text to go on with"},
    {.name = "max_new_tokens",
     .group = "generate",
     .member = &S::max_new_tokens,
     .on_resume = OnResume::kFree,
     .help = "tokens to generate at most",
     .minimum = 1,
     .maximum = 1 << 30},
    {.name = "apply_chat_template",
     .group = "generate",
     .member = &S::apply_chat_template,
     .on_resume = OnResume::kFree,
     .help = "wrap the prompt in the model's chat template"},
    {.name = "add_special_tokens",
     .group = "generate",
     .member = &S::add_special_tokens,
     .on_resume = OnResume::kFree,
     .help = "let the tokenizer add its bos and eos (ithaca tokenize)"},
    {.name = "do_sample",
     .group = "generate",
     .member = &S::do_sample,
     .on_resume = OnResume::kFree,
     .help = "only false so far (LLaMA-Factory's default is true): the likeliest token each time"},
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

static_assert(std::ranges::none_of(kSettings, [](const SettingInfo& info) {
  return info.on_resume == OnResume::kUndeclared;
}));

}  // namespace

std::span<const SettingInfo> settings_table() {
  return kSettings;
}

const SettingInfo* find_setting(std::string_view name) {
  if (name.empty()) return nullptr;  // absent aliases are empty
  for (const SettingInfo& info : kSettings)
    if (info.name == name || std::ranges::find(info.aliases, name) != info.aliases.end()) return &info;
  return nullptr;
}

bool is_setting_group(std::string_view key) {
  std::string name(key);
  std::ranges::replace(name, '-', '_');
  return std::ranges::any_of(kSettings, [&](const SettingInfo& info) {
    return info.name.size() > name.size() && info.name.starts_with(name) && info.name[name.size()] == '.';
  });
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
  for (const FieldName& field : field_names()) consider(field.name);
  for (const FixedSetting& fixed : fixed_settings()) consider(fixed.name);
  if (fewest > static_cast<int>(name.size() / 3)) return "";
  return std::string(best);
}

OnResume on_resume(std::string_view name) {
  const SettingInfo* info = find_setting(name);
  return info ? info->on_resume : OnResume::kUndeclared;
}

std::map<std::string, std::string> settings_kept_for_resume(const Settings& settings) {
  std::map<std::string, std::string> kept;
  for (const SettingInfo& info : kSettings)
    if (info.on_resume != OnResume::kFree) kept.emplace(info.name, value_text(info, settings));
  return kept;
}

std::vector<std::string> setting_names() {
  std::vector<std::string> names;
  for (const SettingInfo& info : kSettings) names.emplace_back(info.name);
  return names;
}

}  // namespace ithaca
