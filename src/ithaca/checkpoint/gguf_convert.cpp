// model.gguf -> Hugging Face folder.
#include <algorithm>
#include <bit>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"
#include "ithaca/checkpoint/gguf.h"
#include "ithaca/checkpoint/gguf_files.h"
#include "ithaca/checkpoint/gguf_llama.h"
#include "ithaca/checkpoint/gguf_tokenizer.h"
#include "ithaca/checkpoint/safetensors.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

// Round to nearest, ties to even; NaN becomes the quiet one, as torch does.
uint16_t to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t rounded = static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
  return (bits & 0x7FFFFFFFU) > 0x7F800000U ? uint16_t{0x7FC0} : rounded;
}

// Turns one tensor after another into the wanted dtype, always in the same buffers: they are as large as the
// largest tensor.
class TensorConverter {
 public:
  TensorConverter(const GgufFiles& files, DType dtype) : files_(files), dtype_(dtype) {}

  std::span<const std::byte> convert(const GgufMapping& mapping) {
    const GgufTensor& tensor = *mapping.source;
    const std::span<const std::byte> blocks = files_.bytes(tensor);
    const std::size_t elements = static_cast<std::size_t>(tensor.numel());
    if (mapping.permuted_heads == 0 && tensor.type == GgmlType::kF32 && dtype_ == DType::kF32) return blocks;
    floats_.resize(std::max(floats_.size(), elements));
    const std::span<float> values = std::span(floats_).first(elements);
    if (mapping.permuted_heads == 0)
      dequantize(tensor.type, blocks, values);
    else
      dequantize_permuted(mapping, blocks, values);
    if (dtype_ == DType::kF32) return std::as_bytes(values);
    halves_.resize(std::max(halves_.size(), elements));
    for (std::size_t i = 0; i < elements; ++i) halves_[i] = to_bfloat16(values[i]);
    return std::as_bytes(std::span(halves_).first(elements));
  }

 private:
  // llama.cpp pairs neighbouring rows of a head for its interleaved rotary embedding; here row 2i + j of the
  // file goes back to row j * D/2 + i of its head.
  static void dequantize_permuted(const GgufMapping& mapping, std::span<const std::byte> blocks,
                                  std::span<float> values) {
    const std::size_t rows = static_cast<std::size_t>(mapping.source->shape.front());
    const std::size_t columns = values.size() / rows;
    const std::size_t row_bytes = blocks.size() / rows;
    const std::size_t head_rows = rows / static_cast<std::size_t>(mapping.permuted_heads);
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t in_head = row % head_rows;
      const std::size_t target = row - in_head + (in_head % 2) * (head_rows / 2) + in_head / 2;
      dequantize(mapping.source->type, blocks.subspan(row * row_bytes, row_bytes),
                 values.subspan(target * columns, columns));
    }
  }

  const GgufFiles& files_;
  DType dtype_;
  std::vector<float> floats_;
  std::vector<uint16_t> halves_;
};

void write_weights(const fs::path& path, const GgufFiles& files, const std::vector<GgufMapping>& mappings,
                   DType dtype) {
  TensorConverter converter(files, dtype);
  std::vector<TensorToWrite> tensors;
  for (const GgufMapping& mapping : mappings)
    tensors.push_back(
        {mapping.name, dtype, mapping.source->shape, [&] { return converter.convert(mapping); }});
  write_safetensors(path, tensors);
}

void set_ids(Json& json, const GgufSpecialTokens& ids) {
  if (ids.bos) json["bos_token_id"] = *ids.bos;
  if (ids.eos) json["eos_token_id"] = *ids.eos;
  if (ids.pad) json["pad_token_id"] = *ids.pad;
}

// Generation must also stop where a chat turn or a message ends, when the file names those tokens apart.
Json generation_config(const GgufSpecialTokens& ids) {
  Json json = Json::object();
  set_ids(json, ids);
  std::vector<int64_t> ends;
  for (const std::optional<int64_t>& id : {ids.eos, ids.eot, ids.eom})
    if (id && std::ranges::find(ends, *id) == ends.end()) ends.push_back(*id);
  if (!ends.empty()) json["eos_token_id"] = ends.size() == 1 ? Json(ends.front()) : Json(ends);
  return json;
}

}  // namespace

void convert_gguf(const fs::path& gguf, const fs::path& folder, const std::string& dtype,
                  const std::function<void(const std::string&)>& report) {
  if (dtype != "float32" && dtype != "bfloat16")
    throw UserError(str("dtype ", dtype, " is not known; expected float32 or bfloat16"));
  const GgufFiles files = open_gguf(gguf);
  LlamaFile llama(files);
  const std::vector<GgufMapping> mappings = llama.map_tensors();
  const GgufTokenizer tokenizer = read_gguf_tokenizer(llama.metadata());

  Json config = Json::object();
  llama.add_config(config);
  if (tokenizer.vocab_size > config["vocab_size"].get<int64_t>())
    throw llama.metadata().bad("tokenizer.ggml.tokens",
                               str("has ", tokenizer.vocab_size, " entries, but the embedding only ",
                                   config["vocab_size"], " rows"));
  config["torch_dtype"] = dtype;
  set_ids(config, tokenizer.ids);
  Json tokenizer_config = *tokenizer.config;
  tokenizer_config["model_max_length"] = config["max_position_embeddings"];

  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw UserError(str(folder.string(), ": cannot make the folder: ", error.message()));
  const auto write = [&](const char* name, const Json& json, int indent) {
    write_json_file(folder / name, json, indent);
    report(str("wrote ", (folder / name).string()));
  };
  write("config.json", config, 2);
  write("generation_config.json", generation_config(tokenizer.ids), 2);
  write("tokenizer.json", *tokenizer.tokenizer, -1);
  write("tokenizer_config.json", tokenizer_config, 2);
  write("special_tokens_map.json", *tokenizer.special_tokens, 2);
  // last, so that a folder with weights is a whole one
  write_weights(folder / "model.safetensors", files, mappings,
                dtype == "float32" ? DType::kF32 : DType::kBF16);
  if (!llama.note().empty()) report("note: " + llama.note());
  report(str("wrote ", (folder / "model.safetensors").string(), ": ", mappings.size(), " tensors, ", dtype));
}

}  // namespace ithaca
