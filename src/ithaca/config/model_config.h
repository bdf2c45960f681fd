// A model's config.json (Hugging Face), parsed once into plain numbers. No torch here: check, help and the
// planner need nothing else.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ithaca/base/json.h"

namespace ithaca {

// Rotary embedding: rope_theta + rope_scaling (transformers 4) or rope_parameters (transformers 5); the type
// key is `type` or `rope_type`.
struct RopeConfig {
  enum class Type { kDefault, kLinear, kDynamic, kLlama3, kYarn };
  Type type = Type::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  // Tokens the model was trained on before scaling; max_position_embeddings where the key is absent.
  int64_t original_max_position_embeddings = 0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  std::optional<double>
      attention_factor;  // yarn; absent: from factor, mscale, mscale_all_dim as transformers does
  std::optional<double> mscale, mscale_all_dim;  // yarn
  bool truncate = true;                          // yarn
};

struct ModelConfig {
  std::string
      architecture;  // LlamaForCausalLM or MistralForCausalLM, also where the file names the base model
  std::string model_type;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;  // explicit, or hidden_size / num_attention_heads
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  RopeConfig rope;
  int64_t sliding_window = 0;  // tokens; 0: none (Mistral's key)
  bool alibi = false;  // ALiBi in the place of rotary embedding (Falcon's key; written by our own export)
  std::string dtype;   // torch_dtype | dtype: float32, bfloat16, float16, float64 or empty
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;  // one or many in the file; ids that name no token are left out
  std::vector<std::string> notes;      // for the log, once: what is in the file and not used
  std::shared_ptr<const Json> raw;     // the file as read, for export
};

// Throws one UserError that lists all problems (missing keys, wrong types, sizes that are not positive or
// overflow, heads not divisible by kv heads, an odd head_dim, an unknown architecture, rope type or
// hidden_act, with the known ones named, and every key of config/model_keys.h that is refused). Keys that are in no list
// there are named in `notes`.
ModelConfig parse_model_config(const Json& json, const std::string& source);
ModelConfig read_model_config(const std::filesystem::path& model_folder);

// Parameters of the model that the config describes (a tied head counted once).
int64_t count_parameters(const ModelConfig& config);

}  // namespace ithaca
