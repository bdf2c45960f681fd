#include "ithaca/checkpoint/hf_folder.h"

#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/checkpoint/model_weights.h"
#include "ithaca/checkpoint/safetensors.h"
#include "ithaca/checkpoint/tensor_io.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

const char* config_dtype(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    case at::kDouble:
      return "float64";
    default:
      return "float32";
  }
}

Json config_to_write(const Decoder& decoder) {
  ITHACA_CHECK(decoder.config.raw, "a model without its config.json");
  Json config = *decoder.config.raw;
  const char* key = config.contains("torch_dtype") ? "torch_dtype" : "dtype";
  config[key] = config_dtype(decoder.dtype());
  if (config.contains("dtype")) config["dtype"] = config_dtype(decoder.dtype());
  config["tie_word_embeddings"] = !decoder.lm_head.has_value();
  config["architectures"] = {decoder.config.architecture};  // with its head, also where a base model was read
  config["model_type"] = decoder.config.model_type;
  if (decoder.config.alibi) config["alibi"] = true;  // our key: transformers has no Llama with ALiBi
  if (decoder.config.architecture == "MistralForCausalLM")
    config["sliding_window"] =
        decoder.config.sliding_window > 0 ? Json(decoder.config.sliding_window) : Json();
  return config;
}

void write_generation_config(const Json& config, const fs::path& folder) {
  Json generation = Json::object();
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    if (config.contains(key) && !config[key].is_null()) generation[key] = config[key];
  write_json_file(folder / "generation_config.json", generation);
}

bool copy_if_there(const fs::path& from, const fs::path& to, const char* name) {
  constexpr std::size_t kMaxBytes = std::size_t{256} << 20;
  if (from.empty() || !fs::exists(from / name)) return false;
  std::error_code error;
  // one of that name that is a link, to the original as well, becomes a file of its own
  if (!fs::equivalent(from, to, error)) write_file(to / name, read_file(from / name, kMaxBytes));
  return true;
}

// The templates besides the usual one, each for a use of its own (tools, documents).
void copy_additional_chat_templates(const fs::path& from, const fs::path& to) {
  const char* const name = "additional_chat_templates";
  std::error_code error;
  if (from.empty() || !fs::is_directory(from / name, error)) return;
  fs::create_directories(to / name, error);
  for (const fs::directory_entry& entry : fs::directory_iterator(from / name))
    if (entry.path().extension() == ".jinja")
      copy_if_there(from / name, to / name, entry.path().filename().c_str());
}

// Parameters in order, a new shard whenever the next one would not fit.
std::vector<ParameterList> split_into_shards(const ParameterList& parameters, std::size_t max_bytes) {
  std::vector<ParameterList> shards(1);
  std::size_t bytes = 0;
  for (Parameter* parameter : parameters) {
    if (!shards.back().empty() && bytes + parameter->value.nbytes() > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += parameter->value.nbytes();
    shards.back().push_back(parameter);
  }
  return shards;
}

void write_shard(const fs::path& path, const ParameterList& parameters) {
  std::vector<TensorToWrite> tensors;
  for (const Parameter* parameter : parameters)
    tensors.push_back(tensor_to_write(parameter->name, parameter->value));
  write_safetensors(path, tensors);
}

// Names of the weight files written.
std::set<std::string> write_weights(const ParameterList& parameters, const fs::path& folder,
                                    std::size_t max_shard_bytes) {
  const std::vector<ParameterList> shards = split_into_shards(parameters, max_shard_bytes);
  if (shards.size() == 1) {
    write_shard(folder / kWeightsFile, parameters);
    return {kWeightsFile};
  }
  std::set<std::string> written = {kWeightsIndex};
  Json map = Json::object();
  std::size_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    std::array<char, 64> name{};
    std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    write_shard(folder / name.data(), shards[i]);
    written.insert(name.data());
    for (const Parameter* parameter : shards[i]) {
      map[parameter->name] = name.data();
      total += parameter->value.nbytes();
    }
  }
  write_json_file(folder / kWeightsIndex, {{"metadata", {{"total_size", total}}}, {"weight_map", map}});
  return written;
}

void remove_older_weights(const fs::path& folder, const std::set<std::string>& written) {
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool weights = name == kWeightsFile || name == kWeightsIndex ||
                         (name.starts_with("model-") && name.ends_with(".safetensors"));
    if (weights && !written.count(name)) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) fs::remove(path);
}

}  // namespace

void load_weights(Decoder& decoder, const fs::path& folder) {
  const WeightFiles weights = WeightFiles::open(folder);
  ModelConfig config = decoder.config;
  config.tie_word_embeddings = !decoder.lm_head.has_value();
  check_weights(config, weights, folder);
  ModelConfig of_the_weights = config;
  untie_if_heads_differ(of_the_weights, weights, folder);
  if (of_the_weights.tie_word_embeddings != config.tie_word_embeddings)
    throw UserError(str(folder.string(),
                        ": lm_head.weight differs from the embedding, but this model's head is its ",
                        "embedding (tie_word_embeddings)"));
  for (const Parameter* parameter : decoder.parameters()) {
    const WeightFiles::Tensor* source = find_source(weights, parameter->name, config.tie_word_embeddings);
    ITHACA_CHECK(source && at::IntArrayRef(source->info->shape) == parameter->value.sizes(), parameter->name);
    copy_stored_tensor(*source->file, *source->info, parameter->value);
  }
}

void save_model_folder(Decoder& decoder, const fs::path& folder, const fs::path& tokenizer_source,
                       std::size_t max_shard_bytes) {
  const Json config = config_to_write(decoder);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw UserError(str(folder.string(), ": cannot make the folder: ", error.message()));
  write_json_file(folder / "config.json", config);
  if (!copy_if_there(tokenizer_source, folder, "generation_config.json"))
    write_generation_config(config, folder);
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json"})
    copy_if_there(tokenizer_source, folder, name);
  copy_additional_chat_templates(tokenizer_source, folder);
  remove_older_weights(folder, write_weights(decoder.parameters(), folder, max_shard_bytes));
}

}  // namespace ithaca
