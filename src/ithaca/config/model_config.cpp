#include "ithaca/config/model_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/config/config_reader.h"

namespace ithaca {
namespace {

// Far above any model, far below what would overflow a product of three of them in int64.
constexpr int64_t kMaxHidden = int64_t{1} << 20;
constexpr int64_t kMaxIntermediate = int64_t{1} << 22;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = int64_t{1} << 16;
constexpr int64_t kMaxHeadDim = int64_t{1} << 14;
constexpr int64_t kMaxVocabulary = int64_t{1} << 28;
constexpr int64_t kMaxPositions = int64_t{1} << 40;

void read_architecture(ConfigReader& reader, ModelConfig& config) {
  constexpr const char* kKnown = "LlamaForCausalLM, MistralForCausalLM";
  const Json* list = reader.find("architectures");
  if (!list || !list->is_array() || list->empty() || !list->front().is_string()) {
    reader.problem("architectures", list, str("a list with one name; known: ", kKnown));
    return;
  }
  config.architecture = list->front().get<std::string>();
  config.model_type = reader.text("model_type", "");
  if (config.architecture != "LlamaForCausalLM" && config.architecture != "MistralForCausalLM")
    reader.problem("architectures", list, str("one of: ", kKnown));
}

void read_sizes(ConfigReader& reader, ModelConfig& config) {
  config.vocab_size = reader.required_size("vocab_size", kMaxVocabulary);
  config.hidden_size = reader.required_size("hidden_size", kMaxHidden);
  config.intermediate_size = reader.required_size("intermediate_size", kMaxIntermediate);
  config.num_hidden_layers = reader.required_size("num_hidden_layers", kMaxLayers);
  config.num_attention_heads = reader.required_size("num_attention_heads", kMaxHeads);
  // The defaults of absent keys are those of transformers' LlamaConfig and MistralConfig.
  const bool mistral = config.architecture == "MistralForCausalLM";
  const int64_t kv_default = mistral && !reader.find("num_key_value_heads") ? 8 : config.num_attention_heads;
  config.num_key_value_heads = reader.size("num_key_value_heads", kMaxHeads, kv_default);
  config.max_position_embeddings =
      reader.size("max_position_embeddings", kMaxPositions, mistral ? 131072 : 2048);
  const int64_t heads = config.num_attention_heads, kv_heads = config.num_key_value_heads;
  config.head_dim = reader.size("head_dim", kMaxHeadDim, heads > 0 ? config.hidden_size / heads : 0);
  if (heads <= 0 || config.hidden_size <= 0) return;  // told already
  if (!reader.has_value("head_dim") && config.hidden_size % heads != 0)
    reader.add(str("hidden_size ", config.hidden_size, " is not divisible by num_attention_heads ", heads,
                   ": mend one of them, or give head_dim"));
  else if (config.head_dim % 2 != 0)
    reader.add(
        str("head_dim ", config.head_dim, " is odd: rotary embedding turns pairs, so it must be even"));
  if (kv_heads > 0 && heads % kv_heads != 0)
    reader.add(str("num_attention_heads ", heads, " is not divisible by num_key_value_heads ", kv_heads,
                   ": every kv head must serve the same number of query heads"));
  if (config.head_dim > 0 && heads * config.head_dim > kMaxHidden)
    reader.add(str("num_attention_heads x head_dim is ", heads * config.head_dim, "; expected at most ",
                   kMaxHidden));
}

void read_behaviour(ConfigReader& reader, ModelConfig& config) {
  config.rms_norm_eps = reader.number("rms_norm_eps", 1e-6, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 1);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false);
  const std::string act = reader.text("hidden_act", "silu");
  if (act != "silu" && act != "swish") reader.problem("hidden_act", reader.find("hidden_act"), "silu");
  if (reader.number("attention_dropout", 0, 0, 1) > 0)
    reader.problem("attention_dropout", reader.find("attention_dropout"),
                   "0 (dropout in attention is not supported)");
  if (reader.has_value("quantization_config"))
    reader.add(
        "quantization_config: quantized weights are not supported; expected float32, bfloat16 or float16 "
        "weights");
  config.alibi = reader.boolean("alibi", false);
  if (config.architecture == "MistralForCausalLM") {
    // transformers takes an absent key for a window of 4096 tokens, and null for none
    if (!reader.find("sliding_window") || reader.has_value("sliding_window"))
      config.sliding_window = reader.size("sliding_window", kMaxPositions, 4096);
    return;  // its layers have no biases, whatever the file says
  }
  config.attention_bias = reader.boolean("attention_bias", false);
  config.mlp_bias = reader.boolean("mlp_bias", false);
}

void read_dtype_and_tokens(ConfigReader& reader, ModelConfig& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (!reader.has_value(key)) continue;
    config.dtype = reader.text(key, "");
    if (config.dtype != "float32" && config.dtype != "bfloat16" && config.dtype != "float16")
      reader.problem(key, reader.find(key), "float32, bfloat16 or float16");
    break;
  }
  const auto token = [&](const char* key, const Json& value) {
    const auto id = exact_integer(value);
    if (!id || *id < 0 || *id >= kMaxVocabulary) reader.problem(key, &value, "a token id");
    return id.value_or(0);
  };
  if (reader.has_value("bos_token_id"))
    config.bos_token_id = token("bos_token_id", *reader.find("bos_token_id"));
  if (!reader.has_value("eos_token_id")) return;
  const Json& eos = *reader.find("eos_token_id");
  if (!eos.is_array()) {
    config.eos_token_ids = {token("eos_token_id", eos)};
  } else if (eos.size() > 1024) {
    reader.add(str("eos_token_id lists ", eos.size(), " tokens; expected at most 1024"));
  } else {
    for (const Json& id : eos) config.eos_token_ids.push_back(token("eos_token_id", id));
  }
}

}  // namespace

ModelConfig parse_model_config(const Json& json, const std::string& source) {
  Problems problems;
  ModelConfig config;
  if (!json.is_object()) throw UserError(str(source, ": expected a JSON object with the model's sizes"));
  ConfigReader reader(json, source, "", problems);
  read_architecture(reader, config);
  read_sizes(reader, config);
  read_behaviour(reader, config);
  config.rope = read_rope_config(reader, config.max_position_embeddings);
  read_dtype_and_tokens(reader, config);
  problems.throw_if_any(str(source, " does not describe a model that Ithaca can build:"));
  config.raw = std::make_shared<const Json>(json);
  return config;
}

ModelConfig read_model_config(const std::filesystem::path& model_folder) {
  const std::filesystem::path file =
      std::filesystem::is_directory(model_folder) ? model_folder / "config.json" : model_folder;
  return parse_model_config(read_json_file(file, std::size_t{1} << 20), file.string());
}

int64_t count_parameters(const ModelConfig& c) {
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  int64_t layer = c.hidden_size * (q + 2 * kv) + q * c.hidden_size + 3 * c.hidden_size * c.intermediate_size +
                  2 * c.hidden_size;
  if (c.attention_bias) layer += q + 2 * kv + c.hidden_size;
  if (c.mlp_bias) layer += 2 * c.intermediate_size + c.hidden_size;
  const int64_t embeddings = c.vocab_size * c.hidden_size * (c.tie_word_embeddings ? 1 : 2);
  return embeddings + c.num_hidden_layers * layer + c.hidden_size;
}

}  // namespace ithaca
