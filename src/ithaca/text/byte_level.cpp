#include "ithaca/text/byte_level.h"

#include "ithaca/text/unicode.h"

namespace ithaca {

ByteLevelAlphabet::ByteLevelAlphabet() {
  bytes_.fill(-1);
  char32_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t c = itself ? static_cast<char32_t>(byte) : next++;
    append_utf8(mapped_[byte], c);
    bytes_[c] = byte;
  }
}

}  // namespace ithaca
