// Bytes of a stranger as integrity.json: refused with a UserError, or every name in it stays below the folder.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/integrity.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const ithaca::Json json =
        ithaca::parse_json({reinterpret_cast<const char*>(data), size}, "integrity.json");
    for (const auto& [name, file] : ithaca::parse_integrity(json, 3, "integrity.json")) {
      const std::filesystem::path path = (std::filesystem::path("/folder") / name).lexically_normal();
      ITHACA_CHECK(
          path.string().starts_with("/folder/") && path.string().size() > 8 && file.sha256.size() == 64,
          name);
    }
  } catch (const ithaca::UserError&) {
    return 0;
  }
  return 0;
}
