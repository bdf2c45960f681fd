// Bytes of a stranger as tokenizer.json, up to a NUL; what follows it is a text, without one a text with all that
// is awkward. The file is refused with a UserError, or the text is encoded and decoded.
#include <algorithm>
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
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t file = std::min(input.find('\0'), input.size());
  const std::string_view text = file < input.size() ? input.substr(file + 1) : kText;
  try {
    const auto json = ithaca::parse_json(input.substr(0, file), "fuzz");
    const auto tokenizer = ithaca::Tokenizer::from_json(json, "fuzz");
    tokenizer.encode(text, false);
    const auto ids = tokenizer.encode(text, true);
    tokenizer.decode(ids, false);
    tokenizer.decode(ids, true);
  } catch (const ithaca::UserError&) {
    return 0;
  }
  return 0;
}
