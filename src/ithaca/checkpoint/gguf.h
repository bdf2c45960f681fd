// GGUF v2/v3 files (ggml's docs/gguf.md), read as hostile: every size is checked before it is used. No torch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace ithaca {

enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ6_K = 14,
  kBF16 = 30
};

struct GgmlTypeInfo {
  GgmlType type;
  const char* name;
  int64_t block_elements;  // a row holds whole blocks
  std::size_t block_bytes;
};
const GgmlTypeInfo& ggml_type_info(GgmlType type);

// Integers of any width are int64_t or uint64_t by their sign, float32 becomes double; arrays of bool are
// arrays of int64_t.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;         // row-major, slowest first (the file lists fastest first)
  std::size_t offset = 0, bytes = 0;  // in the file; both inside it
  std::size_t part = 0;               // of a split file (gguf_files.h)
  int64_t numel() const;
};

struct GgufHeader {
  std::map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> tensors;  // in file order, names unique
};

// UserError names file, key or tensor and rule; an unsupported quantisation is named with the known ones.
GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& source);

// Dequantises `blocks` (whole blocks of `type`) to out; out.size() is the number of elements. Equal bit for
// bit to the `gguf` package 0.19 (NaN payloads apart). No alignment is needed.
void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> out);

// model.gguf, or a part of a split one (gguf_files.h) -> Hugging Face folder: config.json, generation_config.json, model.safetensors in `dtype`
// ("float32" | "bfloat16"), tokenizer.json, tokenizer_config.json with the chat template,
// special_tokens_map.json. Llama architecture; llama.cpp's permutation of q and k undone; a head equal to the
// embedding (no output.weight) is tied. `report` gets a line for each file written, and
// one for what is in the file and not used. The folder is made if
// need be; files of the same names are replaced. One tensor at a time is held in memory.
void convert_gguf(const std::filesystem::path& gguf, const std::filesystem::path& folder,
                  const std::string& dtype, const std::function<void(const std::string&)>& report);

}  // namespace ithaca
