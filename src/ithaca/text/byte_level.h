// GPT-2's printable stand-ins for bytes: 0x21..0x7E, 0xA1..0xAC and 0xAE..0xFF stand for themselves, the
// other 68, in order, are U+0100...
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace ithaca {

class ByteLevelAlphabet {
 public:
  ByteLevelAlphabet();
  void append_mapped(std::string& out, std::string_view bytes) const {
    for (const char byte : bytes) out += mapped_[static_cast<unsigned char>(byte)];
  }
  std::optional<char> byte_of(char32_t c) const {
    if (c >= bytes_.size() || bytes_[c] < 0) return std::nullopt;
    return static_cast<char>(bytes_[c]);
  }

 private:
  std::array<std::string, 256> mapped_;
  std::array<int, 256 + 68> bytes_;
};

}  // namespace ithaca
