// safetensors files (github.com/huggingface/safetensors, README "Format"), read as hostile and written whole.
// This header and gguf.h know no torch (target ithaca_formats), so that fuzzers and `ithaca convert` stay
// small.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ithaca/base/file.h"

namespace ithaca {

enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };
std::size_t dtype_size(DType dtype);  // bytes of one element
const char* dtype_name(DType dtype);  // "F32", ...

struct TensorInfo {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::size_t begin = 0, end = 0;  // bytes, relative to the data that follows the header
};

struct SafetensorsHeader {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
  std::size_t data_offset = 0;  // where the data starts in the file
};

// Checks every rule: header length <= 100 MB and inside the file, JSON object, no duplicate keys, string
// metadata, byte counts equal to dtype and shape (multiplication checked), offsets contiguous from 0 without
// hole or overlap, last end == file size. UserError names file, tensor and rule.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& source);

// A handle: copies share the map and the header.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);
  const SafetensorsHeader& header() const { return *header_; }
  // A view of the map, aligned to one byte only; valid while this object or a copy of it lives.
  std::span<const std::byte> data(const TensorInfo& tensor) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::shared_ptr<const SafetensorsHeader> header_;
};

// One tensor to write; `bytes` is asked for once, when its turn comes, so that converted tensors need not all
// be in memory.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::function<std::span<const std::byte>()> bytes;
};

// Temporary name, fsync, rename. Header padded to 8 bytes; wider dtypes are laid first (as upstream does), so
// that every tensor is aligned to its element. Metadata {"format": "pt"} is added. UserError if the disk
// refuses; names must be unique.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace ithaca
