#include "ithaca/checkpoint/hf_folder.h"

#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/checkpoint/safetensors.h"
#include "ithaca/checkpoint/tensor_io.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kHead = "lm_head.weight";

struct StoredTensor {
  SafetensorsFile file;
  TensorInfo info;
};
using StoredTensors = std::map<std::string, StoredTensor>;

StoredTensors open_single(const fs::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  StoredTensors stored;
  for (const auto& [name, info] : file.header().tensors) stored.emplace(name, StoredTensor{file, info});
  return stored;
}

StoredTensors open_shards(const fs::path& folder, Problems& problems) {
  const fs::path index_path = folder / kIndex;
  const std::string source = index_path.string();
  const Json index = read_json_file(index_path);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object())
    throw UserError(str(source, ": weight_map must be an object that gives each tensor's file"));
  std::map<std::string, SafetensorsFile> shards;
  std::set<std::string> failed;
  StoredTensors stored;
  for (const auto& [name, value] : map->items()) {
    const std::string key = str("weight_map, tensor ", name);
    if (!value.is_string()) {
      problems.add(str(source, ": ", key, ": the file name must be a string"));
      continue;
    }
    const std::string shard = value.get<std::string>();
    if (failed.count(shard)) continue;
    try {
      const fs::path path = resolve_inside(folder, shard, source, key);
      auto opened = shards.find(shard);
      if (opened == shards.end()) opened = shards.emplace(shard, SafetensorsFile::open(path)).first;
      const auto& tensors = opened->second.header().tensors;
      const auto info = tensors.find(name);
      if (info == tensors.end())
        problems.add(str(path.string(), ": has no tensor ", name, ", though ", kIndex, " says so"));
      else
        stored.emplace(name, StoredTensor{opened->second, info->second});
    } catch (const UserError& error) {
      problems.add(error.what());
      failed.insert(shard);
    }
  }
  return stored;
}

bool is_pickle(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".bin" || extension == ".pt" || extension == ".pth";
}

UserError no_weights(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (is_pickle(entry.path()))
      return UserError(
          str(entry.path().string(),
              ": pickled weights can carry code and are never read. Convert them once with transformers: ",
              "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"));
  return UserError(str(folder.string(), ": has neither ", kWeights, " nor ", kIndex,
                       "; expected a Hugging Face model folder"));
}

StoredTensors open_weights(const fs::path& folder, Problems& problems) {
  if (fs::exists(folder / kWeights))
    return open_single(resolve_inside(folder, kWeights, folder.string(), "weights"));
  if (fs::exists(folder / kIndex)) return open_shards(folder, problems);
  throw no_weights(folder);
}

bool is_float(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// Old files keep this buffer, which is computed anew; a tied head may be stored twice.
bool may_be_ignored(const std::string& name, const Decoder& decoder) {
  return name.ends_with(".rotary_emb.inv_freq") || (name == kHead && !decoder.lm_head);
}

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
  if (!fs::equivalent(from / name, to / name, error))
    write_file(to / name, read_file(from / name, kMaxBytes));
  return true;
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
    write_shard(folder / kWeights, parameters);
    return {kWeights};
  }
  std::set<std::string> written = {kIndex};
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
  write_json_file(folder / kIndex, {{"metadata", {{"total_size", total}}}, {"weight_map", map}});
  return written;
}

void remove_older_weights(const fs::path& folder, const std::set<std::string>& written) {
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool weights =
        name == kWeights || name == kIndex || (name.starts_with("model-") && name.ends_with(".safetensors"));
    if (weights && !written.count(name)) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) fs::remove(path);
}

}  // namespace

void load_weights(Decoder& decoder, const fs::path& folder) {
  Problems problems;
  const StoredTensors stored = open_weights(folder, problems);
  const ParameterList parameters = decoder.parameters();
  std::set<std::string> wanted;
  for (const Parameter* parameter : parameters) {
    wanted.insert(parameter->name);
    const auto found = stored.find(parameter->name);
    if (found == stored.end()) {
      problems.add(str("tensor ", parameter->name, " is missing"));
      continue;
    }
    const TensorInfo& info = found->second.info;
    if (at::IntArrayRef(info.shape) != parameter->value.sizes())
      problems.add(str("tensor ", parameter->name, " has shape ", shape_text(info.shape),
                       ", config.json says ", shape_text(parameter->value.sizes().vec())));
    if (!is_float(info.dtype))
      problems.add(str("tensor ", parameter->name, " has dtype ", dtype_name(info.dtype),
                       ", expected F32, BF16, F16 or F64"));
  }
  for (const auto& [name, tensor] : stored)
    if (!wanted.count(name) && !may_be_ignored(name, decoder))
      problems.add(str("tensor ", name, " is not part of this model"));
  problems.throw_if_any(
      str(folder.string(), ": the weights do not fit the model that config.json describes:"));
  for (const Parameter* parameter : parameters) {
    const StoredTensor& source = stored.at(parameter->name);
    copy_stored_tensor(source.file, source.info, parameter->value);
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
  remove_older_weights(folder, write_weights(decoder.parameters(), folder, max_shard_bytes));
}

}  // namespace ithaca
