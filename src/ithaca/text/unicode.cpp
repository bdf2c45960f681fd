#include "ithaca/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "ithaca/text/library_tables.h"

namespace ithaca {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Sequence {
  std::size_t bytes;  // of the character, or of the ill-formed part
  bool valid;
};

bool contains(std::span<const library::Range> ranges, char32_t c) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), c,
                       [](char32_t key, const library::Range& range) { return key < range.first; });
  return after != ranges.begin() && c <= std::prev(after)->last;
}

// The allowed second bytes depend on the first (Unicode standard, table 3-7): no overlong forms, no
// surrogates, nothing above U+10FFFF.
Sequence scan_sequence(std::string_view text, std::size_t position) {
  auto byte = [&](std::size_t i) -> unsigned { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(position);
  if (first < 0x80) return {1, true};
  std::size_t length = 0;
  unsigned low = 0x80, high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {1, false};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (position + i >= text.size() || byte(position + i) < low || byte(position + i) > high)
      return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

// The first position at or after `position` that does not start a valid character; text.size() if there is
// none.
std::size_t find_invalid(std::string_view text, std::size_t position) {
  while (position < text.size()) {
    std::uint64_t eight = 0;
    if (text.size() - position >= 8) {
      std::memcpy(&eight, text.data() + position, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        position += 8;
        continue;
      }
    }
    const Sequence sequence = scan_sequence(text, position);
    if (!sequence.valid) return position;
    position += sequence.bytes;
  }
  return text.size();
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  return find_invalid(text, 0) == text.size();
}

std::string to_valid_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  std::size_t position = 0;
  while (position < text.size()) {
    const std::size_t bad = find_invalid(text, position);
    valid.append(text.substr(position, bad - position));
    if (bad == text.size()) break;
    valid.append(kReplacement);
    position = bad + scan_sequence(text, bad).bytes;
  }
  return valid;
}

char32_t next_code_point(std::string_view text, std::size_t& position) {
  auto byte = [&](std::size_t i) -> char32_t { return static_cast<unsigned char>(text[i]); };
  const char32_t first = byte(position);
  if (first < 0x80) {
    position += 1;
    return first;
  }
  if (first < 0xE0) {
    position += 2;
    return (first & 0x1F) << 6 | (byte(position - 1) & 0x3F);
  }
  if (first < 0xF0) {
    position += 3;
    return (first & 0x0F) << 12 | (byte(position - 2) & 0x3F) << 6 | (byte(position - 1) & 0x3F);
  }
  position += 4;
  return (first & 0x07) << 18 | (byte(position - 3) & 0x3F) << 12 | (byte(position - 2) & 0x3F) << 6 |
         (byte(position - 1) & 0x3F);
}

char32_t last_code_point(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return next_code_point(text, begin);
}

void append_utf8(std::string& text, char32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  text.append(bytes, bytes + length);
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return contains(library::numeric(), c);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  return contains(library::punctuation(), c);
}

bool is_mark(char32_t c) {
  return c >= 0x300 && contains(library::marks(), c);
}

bool is_word_character(char32_t c) {
  return contains(library::words(), c);
}

}  // namespace ithaca
