// Bytes of a stranger as model.safetensors.index.json: refused with a UserError, or every file name in it is a plain
// name.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/weight_files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto files =
        ithaca::parse_weight_index({reinterpret_cast<const char*>(data), size}, "folder", "index.json");
    for (const auto& [tensor, file] : files)
      ITHACA_CHECK(!file.empty() && file != "." && file != ".." && file.find('/') == std::string::npos &&
                       file.find('\0') == std::string::npos,
                   file);
  } catch (const ithaca::UserError&) {
    return 0;
  }
  return 0;
}
