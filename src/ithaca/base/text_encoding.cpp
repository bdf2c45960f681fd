#include "ithaca/base/text_encoding.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iomanip>
#include <sstream>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr std::size_t kSample = std::size_t{64} << 10;

unsigned byte_at(std::string_view s, std::size_t i) {
  return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u;
}

// Length of the well-formed sequence at the start of `s`, 0 if there is none.
std::size_t utf8_sequence(std::string_view s) {
  const auto is_tail = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return byte_at(s, i) >= low && byte_at(s, i) <= high;
  };
  const unsigned lead = byte_at(s, 0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return is_tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {  // no overlong form (E0), no surrogate (ED)
    return is_tail(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) && is_tail(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {  // no overlong form (F0), nothing above U+10FFFF (F4)
    return is_tail(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF) && is_tail(2) && is_tail(3) ? 4
                                                                                                          : 0;
  }
  return 0;
}

// A sequence that the end of the text cuts off: all that is there of it is right.
bool is_cut_sequence(std::string_view s) {
  const unsigned lead = byte_at(s, 0);
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || s.size() >= length) return false;
  for (std::size_t i = 1; i < s.size(); ++i)
    if (byte_at(s, i) < 0x80 || byte_at(s, i) > 0xBF) return false;
  return true;
}

std::string hex_byte(char c) {
  std::ostringstream out;
  out << "0x" << std::uppercase << std::hex << std::setw(2) << std::setfill('0')
      << int{static_cast<unsigned char>(c)};
  return out.str();
}

struct WideForm {
  const char* name;
  std::string_view mark;
  std::size_t unit;       // bytes
  std::size_t low;        // which byte of a unit is the lowest
  const char* mark_name;  // for the message
};

// UTF-32 comes first: its little-endian mark begins with UTF-16's.
constexpr std::array<WideForm, 4> kWideForms{{
    {"UTF-32LE", {"\xFF\xFE\0\0", 4}, 4, 0, "FF FE 00 00"},
    {"UTF-32BE", {"\0\0\xFE\xFF", 4}, 4, 3, "00 00 FE FF"},
    {"UTF-16LE", {"\xFF\xFE", 2}, 2, 0, "FF FE"},
    {"UTF-16BE", {"\xFE\xFF", 2}, 2, 1, "FE FF"},
}};

uint32_t unit_at(std::string_view text, std::size_t at, const WideForm& form) {
  uint32_t value = 0;
  for (std::size_t i = 0; i < form.unit; ++i) {
    const std::size_t place = form.low == 0 ? i : form.unit - 1 - i;
    value |= static_cast<uint32_t>(byte_at(text, at + i)) << (8 * place);
  }
  return value;
}

// Blocks that running text is made of; a control character or a letter of no script people write is in none.
bool is_common(uint32_t unit) {
  constexpr std::array<std::array<uint32_t, 2>, 9> kBlocks{{{0x09, 0x0D},
                                                            {0x20, 0x7E},
                                                            {0xA0, 0x6FF},
                                                            {0x900, 0xDFF},
                                                            {0xE00, 0xE7F},
                                                            {0x1E00, 0x206F},
                                                            {0x3000, 0x30FF},
                                                            {0x4E00, 0x9FFF},
                                                            {0xAC00, 0xD7A3}}};
  const auto inside = [unit](const auto& block) { return unit >= block[0] && unit <= block[1]; };
  return std::any_of(kBlocks.begin(), kBlocks.end(), inside) || (unit >= 0xFF00 && unit <= 0xFFEF);
}

// Nine units in ten are of blocks that texts are made of, and some are ASCII, whose upper bytes are zero: letters of
// plain ASCII or of an 8-bit encoding, read as pairs, may fall into the blocks but hold no zero byte.
bool looks_like(std::string_view sample, const WideForm& form) {
  const std::size_t units = sample.size() / form.unit;
  std::size_t common = 0, ascii = 0;
  for (std::size_t i = 0; i < units; ++i) {
    const uint32_t unit = unit_at(sample, i * form.unit, form);
    common += is_common(unit);
    ascii += unit < 0x80 && unit != 0;
  }
  return units > 0 && ascii > 0 && 10 * common >= 9 * units;
}

// One byte in sixteen is a control character that texts do not hold: read as UTF-8 this is no text. (Cyrillic UTF-16 is
// well-formed UTF-8, every second byte 04.)
bool is_full_of_controls(std::string_view sample) {
  const auto is_control = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 && (byte < 0x09 || byte > 0x0D) && byte != 0x1B;
  };
  return 16 * static_cast<std::size_t>(std::count_if(sample.begin(), sample.end(), is_control)) >=
         sample.size();
}

std::string wide_problem(const WideForm& form, bool marked) {
  const std::string family = std::string(form.name).substr(0, 6);
  return str("is ", family,
             marked ? str(" (it begins with ", form.mark_name, ")") : " (from where its zero bytes lie)",
             "; expected UTF-8, convert it first: iconv -f ", marked ? family : form.name, " -t UTF-8");
}

std::string unmarked_problem(std::string_view sample) {
  if (sample.find('\0') == std::string_view::npos) return "";
  for (const WideForm& form : kWideForms)
    if (looks_like(sample, form)) return wide_problem(form, false);
  return "";
}

}  // namespace

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (at + 8 <= text.size() &&
        (std::memcpy(&eight, text.data() + at, 8), (eight & 0x8080808080808080u) == 0)) {
      at += 8;
      continue;
    }
    const std::size_t length = utf8_sequence(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::nullopt;
}

std::string_view without_byte_order_mark(std::string_view text) {
  while (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  return text;
}

std::string wide_encoding_problem(std::string_view text) {
  const std::string_view sample = text.substr(0, kSample);
  for (const WideForm& form : kWideForms)
    if (text.starts_with(form.mark)) return wide_problem(form, true);
  return is_full_of_controls(sample) ? unmarked_problem(sample) : "";
}

std::string not_utf8_problem(std::string_view text, std::size_t offset) {
  const std::string wide = unmarked_problem(text.substr(0, kSample));
  if (!wide.empty()) return wide;
  const std::string what = str("not UTF-8 at byte ", offset, " (", hex_byte(text[offset]), ")");
  if (is_cut_sequence(text.substr(offset)))
    return what +
           ": it ends inside a character; was it cut? iconv -c -f UTF-8 -t UTF-8 leaves the rest of it out";
  const auto is_high = [](char c) { return static_cast<unsigned char>(c) >= 0x80; };
  if (std::any_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), is_high))
    return what +
           ", and UTF-8 before it: bytes are damaged or of another encoding; iconv -c -f UTF-8 -t UTF-8 "
           "leaves them out";
  return what +
         "; convert it first, for instance with iconv -f LATIN1 -t UTF-8 (or WINDOWS-1252, GB18030, "
         "SHIFT_JIS: what it "
         "was written in)";
}

}  // namespace ithaca
