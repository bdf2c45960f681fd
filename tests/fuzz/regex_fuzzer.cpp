// Bytes of a stranger as a regular expression of tokenizer.json, up to a NUL; what follows it is the text. The
// expression is refused with a UserError, or its matches lie in the text, in order.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/text/regex.h"
#include "ithaca/text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t pattern = std::min(input.find('\0'), input.size());
  const std::string text = ithaca::to_valid_utf8(
      pattern < input.size() ? input.substr(pattern + 1) : "aB \xC3\x9F ss\r\n12 \xE6\xB5\xB7");
  try {
    const ithaca::Regex regex(std::string(input.substr(0, pattern)), "fuzz");
    ithaca::RegexScratch scratch(std::size_t{1} << 20);
    std::vector<ithaca::Span> matches;
    regex.find_all(text, scratch, matches);
    std::size_t end = 0;
    for (const ithaca::Span& match : matches) {
      if (match.begin < end || match.end < match.begin || match.end > text.size()) std::abort();
      end = match.end;
    }
  } catch (const ithaca::UserError&) {
    return 0;
  }
  return 0;
}
