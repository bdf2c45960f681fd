#include "ithaca/config/model_config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/config/config_reader.h"
#include "ithaca/config/model_keys.h"
#include "ithaca/config/python_json.h"

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

struct Family {
  const char* architecture;
  const char* model_type;
  std::array<const char*, 2> also;  // names of architectures that the same weights serve
};
constexpr std::array kFamilies = {Family{"LlamaForCausalLM", "llama", {"LlamaModel", "LLaMAForCausalLM"}},
                                  Family{"MistralForCausalLM", "mistral", {"MistralModel", "MistralModel"}}};
constexpr const char* kKnown = "LlamaForCausalLM, MistralForCausalLM";

const Family* family_named(const std::string& architecture) {
  for (const Family& family : kFamilies)
    if (architecture == family.architecture || std::ranges::count(family.also, architecture)) return &family;
  return nullptr;
}

const Family* family_of_type(const std::string& model_type) {
  for (const Family& family : kFamilies)
    if (model_type == family.model_type) return &family;
  return nullptr;
}

// transformers' AutoModelForCausalLM goes by model_type alone; a folder may say only one of the two, or name the base
// model, whose head the tied embedding or the weights give.
void read_architecture(ConfigReader& reader, ModelConfig& config) {
  const Json* list = reader.has_value("architectures") ? reader.find("architectures") : nullptr;
  const Family* named = nullptr;
  if (list && (!list->is_array() || list->empty() || !list->front().is_string()))
    return reader.problem("architectures", list, str("a list with one name; known: ", kKnown));
  if (list && !(named = family_named(list->front().get<std::string>())))
    return reader.problem("architectures", list, str("one of: ", kKnown));
  config.model_type = reader.text("model_type", "");
  const Family* family = named;
  if (!config.model_type.empty() && !(family = family_of_type(config.model_type)))
    return reader.problem("model_type", reader.find("model_type"), "llama or mistral");
  if (!family)
    return reader.problem("architectures", reader.find("architectures"),
                          str("a list with one name; known: ", kKnown));
  config.architecture = family->architecture;
  config.model_type = family->model_type;
  if (named && named != family)
    config.notes.push_back(str(reader.source(), ": architectures says ", named->architecture,
                               ", model_type says ", family->model_type, ": the model is ",
                               family->architecture));
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

// Refused keys, and those that neither the table nor the generation of text knows.
void check_keys(ConfigReader& reader, ModelConfig& config) {
  std::vector<std::string> unknown = reader.check_keys(model_config_keys(config.architecture));
  std::erase_if(unknown,
                [](const std::string& name) { return find_key(generation_keys(), name) != nullptr; });
  const std::string note = unknown_keys_note(
      reader.source(), unknown, str("transformers reads no such key of a ", config.model_type, " model"));
  if (!note.empty()) config.notes.push_back(note);
}

// transformers runs a mistral folder with layer_types as Ministral, whose layers slide or not as the list says.
void read_window(ConfigReader& reader, ModelConfig& config) {
  const bool mistral = config.architecture == "MistralForCausalLM";
  // an absent key is a window of 4096 tokens there, and null is none
  if (mistral && (!reader.find("sliding_window") || reader.has_value("sliding_window")))
    config.sliding_window = reader.size("sliding_window", kMaxPositions, 4096);
  if (!reader.has_value("layer_types")) return;
  const Json& types = *reader.find("layer_types");
  std::set<std::string> seen;
  if (types.is_array())
    for (const Json& type : types) seen.insert(type.is_string() ? type.get<std::string>() : type.dump());
  const auto all = [&](const char* name, const char* older) {
    return std::ranges::all_of(seen, [&](const std::string& type) { return type == name || type == older; });
  };
  const bool fits = types.is_array() && types.size() == static_cast<std::size_t>(config.num_hidden_layers);
  if (fits && all("full_attention", "attention"))
    config.sliding_window = 0;
  else if (!fits || !mistral || !all("sliding_attention", "sliding_attention"))
    reader.problem("layer_types", &types,
                   str("a list of num_hidden_layers times full_attention",
                       mistral ? ", or as many times sliding_attention" : ""));
}

void read_behaviour(ConfigReader& reader, ModelConfig& config) {
  config.rms_norm_eps = reader.number("rms_norm_eps", 1e-6, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 1);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false);
  const std::string act = reader.text("hidden_act", "silu");
  if (act != "silu" && act != "swish") reader.problem("hidden_act", reader.find("hidden_act"), "silu");
  config.alibi = reader.boolean("alibi", false);
  read_window(reader, config);
  if (config.architecture == "MistralForCausalLM")
    return;  // its layers have no biases, whatever the file says
  config.attention_bias = reader.boolean("attention_bias", false);
  config.mlp_bias = reader.boolean("mlp_bias", false);
}

// As torch and others write it: torch.bfloat16, bf16; empty: not a float type.
std::string dtype_named(std::string name) {
  constexpr std::string_view kPrefix = "torch.";
  if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
  constexpr std::array<std::array<const char*, 2>, 11> kNames = {{{"float32", "float32"},
                                                                  {"float", "float32"},
                                                                  {"fp32", "float32"},
                                                                  {"bfloat16", "bfloat16"},
                                                                  {"bf16", "bfloat16"},
                                                                  {"float16", "float16"},
                                                                  {"half", "float16"},
                                                                  {"fp16", "float16"},
                                                                  {"float64", "float64"},
                                                                  {"double", "float64"},
                                                                  {"auto", "float32"}}};
  for (const auto& [written, meant] : kNames)
    if (name == written) return meant;
  return "";
}

// Ids that name no token (-1 in older files) never match one; transformers warns of them and goes on.
void read_tokens(ConfigReader& reader, ModelConfig& config) {
  const auto token = [&](const char* key, const Json& value) -> std::optional<int64_t> {
    const auto id = exact_integer(value);
    if (!id || *id >= kMaxVocabulary || *id <= -kMaxVocabulary) reader.problem(key, &value, "a token id");
    if (id && *id < 0) config.notes.push_back(str(reader.source(), ": ", key, " ", *id, " names no token"));
    return id && *id >= 0 ? id : std::nullopt;
  };
  if (reader.has_value("bos_token_id"))
    config.bos_token_id = token("bos_token_id", *reader.find("bos_token_id"));
  if (!reader.has_value("eos_token_id")) return;
  const Json& eos = *reader.find("eos_token_id");
  if (eos.is_array() && eos.size() > 1024)
    return reader.add(str("eos_token_id lists ", eos.size(), " tokens; expected at most 1024"));
  for (const Json& value : eos.is_array() ? eos : Json::array({eos}))
    if (const auto id = token("eos_token_id", value)) config.eos_token_ids.push_back(*id);
}

void read_dtype(ConfigReader& reader, ModelConfig& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (!reader.has_value(key)) continue;
    const std::string written = reader.text(key, "");
    config.dtype = dtype_named(written);
    if (config.dtype.empty() && !written.empty())
      reader.problem(key, reader.find(key), "float32, bfloat16 or float16");
    break;
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
  check_keys(reader, config);
  config.rope = read_rope_config(reader, config.max_position_embeddings, config.notes);
  read_dtype(reader, config);
  read_tokens(reader, config);
  problems.throw_if_any(str(source, " does not describe a model that Ithaca can build:"));
  config.raw = std::make_shared<const Json>(json);
  return config;
}

ModelConfig read_model_config(const std::filesystem::path& model_folder) {
  const std::filesystem::path file =
      std::filesystem::is_directory(model_folder) ? model_folder / "config.json" : model_folder;
  const std::string source = file.string();
  return parse_model_config(parse_python_json(read_file(file, std::size_t{1} << 20), source), source);
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
