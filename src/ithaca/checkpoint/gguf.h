// GGUF v2/v3 files (ggml's docs/gguf.md), read as hostile: every size is checked before it is used. No torch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "ithaca/base/file.h"

namespace ithaca {

enum class GgmlType : uint32_t { kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ5_0 = 6, kQ5_1 = 7, kQ8_0 = 8, kQ4_K = 12, kQ6_K = 14, kBF16 = 30 };

using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;  // row-major, slowest first (the file lists fastest first)
  std::size_t offset = 0, bytes = 0;  // in the file
  int64_t numel() const;
};

struct GgufHeader {
  std::map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> tensors;
};

// UserError names file, key or tensor and rule; an unsupported quantisation is named with the known ones.
GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& source);

// Dequantises `blocks` (whole rows of `type`) to out; out.size() is the number of elements. Equal bit for bit to the `gguf` package 0.19.
void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> out);

// model.gguf -> Hugging Face folder: config.json, generation_config.json, model.safetensors in `dtype` ("float32" | "bfloat16"), tokenizer.json, tokenizer_config.json with
// the chat template. Llama architecture; llama.cpp's permutation of q and k undone. `report` gets progress lines.
void convert_gguf(const std::filesystem::path& gguf, const std::filesystem::path& folder, const std::string& dtype,
                  const std::function<void(const std::string&)>& report);

}  // namespace ithaca
