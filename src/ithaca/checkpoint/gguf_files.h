// One GGUF file, or the parts of a split one (llama.cpp's gguf-split) joined as if they were one.
#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ithaca/base/file.h"
#include "ithaca/checkpoint/gguf.h"

namespace ithaca {

struct GgufFiles {
  std::string source;  // the file that was named, for messages
  std::vector<std::span<const std::byte>> parts;
  std::vector<std::shared_ptr<const MappedFile>> maps;  // that hold the parts
  GgufHeader header;  // the first part's metadata, the tensors of all; GgufTensor::part says where each lies

  std::span<const std::byte> bytes(const GgufTensor& tensor) const {
    return parts.at(tensor.part).subspan(tensor.offset, tensor.bytes);
  }
};

// Any part of a split file may be named; the others lie beside it under the names that gguf-split gives. UserError as
// parse_gguf, and where a part is missing, is of another file or has another number: it says which part of how many
// this is, and how to join them.
GgufFiles open_gguf(const std::filesystem::path& path);

}  // namespace ithaca
