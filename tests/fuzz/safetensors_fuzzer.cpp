// Any bytes are either refused with UserError or give tensors that lie inside the file.
#include <cstddef>
#include <cstdint>
#include <span>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  try {
    const ithaca::SafetensorsHeader header = ithaca::parse_safetensors_header(file, "fuzz.safetensors");
    unsigned sum = 0;
    for (const auto& [name, info] : header.tensors)
      for (const std::byte byte : file.subspan(header.data_offset + info.begin, info.end - info.begin))
        sum += std::to_integer<unsigned>(byte);
    [[maybe_unused]] volatile unsigned sink = sum;  // the reads must not be optimised away
  } catch (const ithaca::UserError&) {
  }
  return 0;
}
