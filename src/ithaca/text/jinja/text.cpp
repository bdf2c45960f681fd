#include "ithaca/text/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "ithaca/text/unicode.h"

namespace ithaca::jinja {
namespace {

bool starts_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0u) != 0x80u;
}

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

void append_hex(std::string& out, char32_t value, int digits) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
    out += "0123456789abcdef"[(value >> shift) & 15u];
}

// The pieces are found from the right and come out in reverse.
std::vector<std::string_view> reversed(std::vector<std::string_view> pieces) {
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<std::string_view> split_space(std::string_view text, std::int64_t limit) {
  std::vector<std::string_view> pieces;
  std::string_view rest = strip(text, Side::kLeft);
  while (!rest.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(pieces.size()) == limit) {
      pieces.push_back(rest);
      break;
    }
    std::size_t end = 0;
    while (end < rest.size()) {
      std::size_t next = end;
      if (is_space(next_code_point(rest, next))) break;
      end = next;
    }
    pieces.push_back(rest.substr(0, end));
    rest = strip(rest.substr(end), Side::kLeft);
  }
  return pieces;
}

std::vector<std::string_view> split_space_right(std::string_view text, std::int64_t limit) {
  std::vector<std::string_view> pieces;
  std::string_view rest = strip(text, Side::kRight);
  while (!rest.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(pieces.size()) == limit) {
      pieces.push_back(rest);
      break;
    }
    std::size_t begin = rest.size();
    while (begin > 0 && !is_space(last_code_point(rest, begin))) do
        --begin;
      while (!starts_character(rest[begin]));
    pieces.push_back(rest.substr(begin));
    rest = strip(rest.substr(0, begin), Side::kRight);
  }
  return reversed(std::move(pieces));
}

}  // namespace

bool is_space(char32_t c) {
  return is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

std::size_t byte_of(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  for (; at < text.size(); ++at)
    if (starts_character(text[at]) && index-- == 0) break;
  return at;
}

std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> chars) {
  std::u32string set;
  if (chars)
    for (std::size_t at = 0; at < chars->size();) set += next_code_point(*chars, at);
  std::sort(set.begin(), set.end());
  const auto drops = [&](char32_t c) {
    return chars ? std::binary_search(set.begin(), set.end(), c) : is_space(c);
  };
  std::size_t begin = 0, end = text.size();
  if (side != Side::kRight) {
    for (std::size_t next = 0; begin < end && drops(next_code_point(text, next));) begin = next;
  }
  if (side != Side::kLeft) {
    while (end > begin && drops(last_code_point(text, end))) do
        --end;
      while (!starts_character(text[end]));
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t c = next_code_point(text, at);
    if (!is_line_end(c)) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator,
                                    std::int64_t limit) {
  if (!separator) return split_space(text, limit);
  std::vector<std::string_view> pieces;
  while (limit < 0 || static_cast<std::int64_t>(pieces.size()) < limit) {
    const std::size_t at = text.find(*separator);
    if (at == std::string_view::npos) break;
    pieces.push_back(text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  pieces.push_back(text);
  return pieces;
}

std::vector<std::string_view> split_right(std::string_view text, std::optional<std::string_view> separator,
                                          std::int64_t limit) {
  if (!separator) return split_space_right(text, limit);
  std::vector<std::string_view> pieces;
  while (limit < 0 || static_cast<std::int64_t>(pieces.size()) < limit) {
    const std::size_t at = text.rfind(*separator);
    if (at == std::string_view::npos) break;
    pieces.push_back(text.substr(at + separator->size()));
    text = text.substr(0, at);
  }
  pieces.push_back(text);
  return reversed(std::move(pieces));
}

std::size_t count_of(std::string_view text, std::string_view part) {
  if (part.empty()) return code_points(text) + 1;
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++count;
  return count;
}

std::string replace(std::string_view text, std::string_view old_part, std::string_view new_part,
                    std::int64_t limit) {
  std::string out;
  std::int64_t done = 0;
  std::size_t at = 0;
  if (old_part.empty()) {  // in front of each character, and at the end
    for (;; ++done) {
      if (limit >= 0 && done == limit) break;
      out += new_part;
      if (at == text.size()) break;
      const std::size_t begin = at;
      next_code_point(text, at);
      out += text.substr(begin, at - begin);
    }
    return out.append(text.substr(at));
  }
  for (; limit < 0 || done < limit; ++done) {
    const std::size_t next = text.find(old_part, at);
    if (next == std::string_view::npos) break;
    out.append(text.substr(at, next - at)).append(new_part);
    at = next + old_part.size();
  }
  return out.append(text.substr(at));
}

bool all_of_class(std::string_view text, bool (*member)(char32_t)) {
  for (std::size_t at = 0; at < text.size();)
    if (!member(next_code_point(text, at))) return false;
  return !text.empty();
}

bool is_alpha(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

bool is_decimal(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_digit(char32_t c) {
  // Numeric_Type=Digit: superscripts, subscripts and digits in circles or brackets.
  static constexpr std::array<std::array<char32_t, 2>, 20> kDigits{
      {{0xB2, 0xB3},     {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},   {0x2070, 0x2070},
       {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247C},   {0x2488, 0x2490},
       {0x24EA, 0x24EA}, {0x24F5, 0x24FD},   {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},
       {0x278A, 0x2792}, {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}}};
  if (is_decimal(c)) return true;
  return std::any_of(kDigits.begin(), kDigits.end(),
                     [&](const auto& range) { return c >= range[0] && c <= range[1]; });
}

bool is_alnum(char32_t c) {
  return is_alpha(c) || is_numeric(c);
}

bool is_upper(std::string_view text) {
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const utf8proc_category_t kind = category(next_code_point(text, at));
    if (kind == UTF8PROC_CATEGORY_LL || kind == UTF8PROC_CATEGORY_LT) return false;
    any |= kind == UTF8PROC_CATEGORY_LU;
  }
  return any;
}

bool is_lower(std::string_view text) {
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const utf8proc_category_t kind = category(next_code_point(text, at));
    if (kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LT) return false;
    any |= kind == UTF8PROC_CATEGORY_LL;
  }
  return any;
}

std::string repr(std::string_view text) {
  const char quote =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += {'\\', static_cast<char>(c)};
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += {'\\', c == '\n' ? 'n' : c == '\r' ? 'r' : 't'};
    } else if (is_printable(c)) {
      append_utf8(out, c);
    } else {
      const int digits = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
      out += {'\\', digits == 2 ? 'x' : digits == 4 ? 'u' : 'U'};
      append_hex(out, c, digits);
    }
  }
  return out += quote;
}

void append_json(std::string& out, std::string_view text, bool ensure_ascii) {
  static constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
  const auto unit = [&](char32_t value) {
    out += "\\u";
    append_hex(out, value, 4);
  };
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text, at);
    const std::size_t letter = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : std::string_view::npos;
    if (letter != std::string_view::npos) {
      out += {'\\', kLetters[letter]};
    } else if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
      unit(c);
    } else if (ensure_ascii && c >= 0x10000) {
      unit(0xD800 + ((c - 0x10000) >> 10));
      unit(0xDC00 + ((c - 0x10000) & 0x3FFu));
    } else {
      out += text.substr(begin, at - begin);
    }
  }
  out += '"';
}

}  // namespace ithaca::jinja
