// The settings of a run: one flat struct in Hugging Face / LLaMA-Factory words. Each is declared once, in
// settings_table.cpp (name, help, aliases, allowed values; the default stands here); parsing, --help, printing, saving and the
// table in docs/settings.md come from that declaration.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/config/model_config.h"

namespace ithaca {

struct Settings {
  // model
  std::string stage = "pt";
  std::string model_name_or_path;
  bool train_from_scratch =
      false;  // weights drawn from the seed; model_name_or_path is a folder with config.json, or that file
  std::string attention = "auto";  // auto | naive | ithaca | aten | flash | cudnn
  // attention pattern; what is in force together with config.json: config/attention_settings.h
  int64_t sliding_window = -1;                // tokens; 0: none; -1 (the word config): as config.json says
  std::string position_embedding = "config";  // config (as config.json says) | rope | alibi
  bool causal = true;
  std::string sparse_attention_mode = "dense";  // dense | fixed | mask
  int64_t sparse_attention_block = 16;          // tokens a block
  int64_t sparse_attention_num_local_blocks = 4, sparse_attention_num_global_blocks = 1;  // fixed
  std::string sparse_attention_mask_file;                                                 // mask
  // data
  std::string train_file;  // .txt (one document) or .jsonl (key text, a document a line)
  std::string eval_file;
  bool packing = true;
  int64_t cutoff_len = 2048;
  int64_t max_samples = 0;  // the first n documents, before packing; 0: all
  bool overwrite_cache = false;
  bool disable_shuffling = false;
  std::string cache_dir;  // tokenised data; empty: ITHACA_CACHE or ~/.cache/ithaca
  // training
  int64_t max_steps = -1;
  double num_train_epochs = 3.0;
  int64_t per_device_train_batch_size = 8;
  int64_t per_device_eval_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  double learning_rate = 5e-5;
  std::string lr_scheduler_type = "linear";  // linear | cosine | constant | constant_with_warmup
  int64_t warmup_steps = 0;
  double warmup_ratio = 0.0;
  double weight_decay = 0.0;
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  std::string optim = "adamw_torch_fused";  // adamw_torch_fused | adamw_torch | sgd
  bool bf16 = false;
  int64_t seed = 42;
  std::string gradient_checkpointing = "false";  // false | full (true is full) | keep_attention
  // evaluation during training
  int64_t eval_steps = 0;       // 0: only at the end of the run
  int64_t max_eval_tokens = 0;  // 0: all of eval_file
  // output
  std::string output_dir;
  bool overwrite_output_dir = false;
  std::string resume_from_checkpoint =
      "auto";  // auto (newest in output_dir unless overwritten) | true | false | a path
  int64_t logging_steps = 500;
  int64_t save_steps = 500;      // 0: only at the end
  int64_t save_total_limit = 0;  // 0: keep all
  bool plot_loss = false;
  // layout
  int64_t sequence_parallel_size = 1;
  // auto | ulysses | ring | hybrid | double_ring | kv_allgather; the degrees that follow: config/sequence_plan.h
  std::string sequence_parallel_method = "auto";
  int64_t ulysses_degree = 0;                             // 0 (the word auto): by sequence_plan.h
  std::string sequence_parallel_order = "ulysses_inner";  // ulysses_inner | ring_inner
  int64_t cp_window_size = 1;                             // ranks of the inner ring; 1: a single ring
  int64_t ulysses_chunks = 1;  // head groups whose exchange runs behind the attention of the one before
  int64_t tensor_parallel_size = 1;
  int64_t nproc = 0;             // local ranks; 0: one
  int64_t threads_per_rank = 0;  // 0: cores / local ranks
  double ddp_timeout = 1800;     // seconds
  // generate, tokenize
  std::string prompt;
  int64_t max_new_tokens = 1024;
  bool apply_chat_template = false;
  bool add_special_tokens = false;
  bool do_sample = false;
};

// Where a value came from, for `ithaca check` and the saved record: "default", "FILE:line", "--flag" as
// typed.
struct ResolvedSettings {
  Settings values;
  std::map<std::string, std::string> origin;  // by setting name; every setting is there
  std::map<std::string, std::string>
      spelling;      // of what was given: "--context-parallel-size 4", "run.yaml:3: cutoff_len: 0"
  std::string file;  // of settings, as given; empty: none
  struct Typed {
    std::string setting, words;  // words: "--flag value", quoted for a shell
  };
  std::vector<Typed> typed;  // on the command line, in order
  std::map<std::string, std::string>
      key;                         // by setting name, of what was given: the name used, with underscores
  std::vector<std::string> notes;  // for the log, once: what a word of the field means here

  bool is_given(const std::string& name) const { return origin.at(name) != "default"; }
  // How the user knows this setting: its spelling, or "cutoff_len 2048 (default)".
  std::string as_typed(const std::string& name) const;
  // For messages that propose a command: " FILE --flag value ... --setting value", where `value` takes the place of
  // what was typed for that setting.
  std::string typed_with(const std::string& setting, const std::string& value) const;
};

// What follows the command's name: [FILE] [--flag value | --flag=value | key=value]...
struct SettingsArguments {
  std::filesystem::path file;  // empty: none
  std::vector<std::string> arguments;
};
SettingsArguments split_arguments(const std::vector<std::string>& after_the_command);

// Reads an optional YAML or JSON file, then arguments (--flag value, --flag=value, key=value; the last wins).
// UserError lists all problems at once: unknown keys name the nearest known one; two spellings of one setting
// with different values are shown both; bad values name the flag as typed, what was expected and a fix.
ResolvedSettings resolve_settings(const std::filesystem::path& file,
                                  const std::vector<std::string>& arguments);
// The same, adding to `problems` instead of throwing; settings with a problem keep their default.
ResolvedSettings resolve_settings(const std::filesystem::path& file,
                                  const std::vector<std::string>& arguments, Problems& problems);
// The same from the text of a settings file; a `name` that ends in .json says it is JSON.
ResolvedSettings resolve_settings_text(std::string_view text, const std::string& name,
                                       const std::vector<std::string>& arguments, Problems& problems);

// The model's folder: model_name_or_path, which may also name the config.json in it.
std::filesystem::path model_folder(const Settings& settings);

// The YAML that reproduces the run, each value with its origin as a comment.
std::string settings_to_yaml(const ResolvedSettings& settings);

// The --help text of one group ("model", "data", ...) or of all ("").
std::string settings_help(std::string_view group);
// docs/settings.md, whole.
std::string settings_markdown();
// Names of all settings, in the order of declaration.
std::vector<std::string> setting_names();

// Whether a setting may have another value when a run goes on from a checkpoint.
enum class OnResume {
  kUndeclared,
  kSame,    // no: data, their order or the function that is trained would be another
  kRemark,  // yes, and it is said: the course or the bits of the run may change
  kFree     // yes; or what it decides is compared in another form (data by content, steps by their number)
};
// What a checkpoint keeps of its run's settings: those that are not free, by name, as text.
std::map<std::string, std::string> settings_kept_for_resume(const Settings& settings);
OnResume on_resume(std::string_view name);  // kUndeclared: no such setting

// Problems that need only the settings, the files they name and the number of ranks (layout, required keys of
// `command` (train, eval or generate), conflicts), each naming the flag as typed. Touches no device, writes
// nothing.
void check_settings(const ResolvedSettings& settings, int64_t world_size, Problems& problems,
                    std::string_view command = "train");

// An output folder that holds something else than a run to go on with. Apart from check_settings, because
// only one process may ask: once rank 0 has begun to write there, the others would find the folder in use.
void check_output_dir(const ResolvedSettings& settings, Problems& problems);

// Problems between settings and model (Ulysses beyond the query heads, a position embedding that the weights
// were not trained with); before any collective.
void check_model_layout(const ResolvedSettings& settings, const ModelConfig& model, int64_t world_size,
                        Problems& problems);

}  // namespace ithaca
