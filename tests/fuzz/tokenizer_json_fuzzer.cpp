// Bytes of a stranger as tokenizer.json: it is refused with a UserError, or it encodes and decodes a fixed
// text.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::string_view kText =
      "<s>the  loom, don't 123 海上 e\xCC\x81 \xF0\x9F\x98\x80\r\n\xFF aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
      "<|end|> ";
  try {
    const auto json = ithaca::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    const auto tokenizer = ithaca::Tokenizer::from_json(json, "fuzz");
    const auto ids = tokenizer.encode(kText, true);
    tokenizer.decode(ids, false);
  } catch (const ithaca::UserError&) {
    return 0;
  }
  return 0;
}
