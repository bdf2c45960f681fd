#include "ithaca/text/regex_reader.h"

#include <cctype>
#include <charconv>
#include <cstdint>

#include "ithaca/base/error.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::string_view kHexadecimal = "0123456789abcdefABCDEF";
constexpr std::string_view kDecimal = "0123456789";
constexpr std::string_view kOctal = "01234567";

// Oniguruma ignores case, spaces, hyphens and underscores in a property's name.
std::string property_key(std::string_view name) {
  std::string key;
  for (const char c : name)
    if (c != '_' && c != ' ' && c != '-')
      key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return key;
}

}  // namespace

void RegexReader::refuse(const std::string& what) const {
  throw UserError(str(where_, ": the regular expression uses ", what, " (before byte ", at_, " of \"",
                      to_valid_utf8(source_.substr(0, 200)),
                      "\"), which is not supported; use a tokenizer without it"));
}

bool RegexReader::accept(std::string_view text) {
  const bool comes = starts_with(text);
  if (comes) at_ += text.size();
  return comes;
}

char32_t RegexReader::next() {
  return next_code_point(source_, at_);
}

std::string RegexReader::until(std::string_view closing) {
  const std::size_t end = source_.find(closing, at_);
  if (end == std::string_view::npos) refuse(str("something without its closing \"", closing, "\""));
  const std::string text(source_.substr(at_, end - at_));
  at_ = end + closing.size();
  return text;
}

std::string RegexReader::digits(std::string_view allowed, std::size_t most) {
  std::string found;
  while (found.size() < most && !at_end() && allowed.find(peek()) != std::string_view::npos)
    found += source_[at_++];
  return found;
}

char32_t RegexReader::from_digits(const std::string& digits, int base) const {
  std::uint32_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto read = std::from_chars(digits.data(), end, value, base);
  if (digits.empty() || read.ec != std::errc() || read.ptr != end || value > 0x10FFFF ||
      (value >= 0xD800 && value < 0xE000))
    refuse("a number that is no character's");
  return static_cast<char32_t>(value);
}

std::optional<CharacterSet> RegexReader::escaped_set(bool in_class) {
  const char letter = peek(1);
  const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  std::optional<CharacterSet> set;
  bool negated = letter != lower;
  if (std::string_view("dhsw").find(lower) != std::string_view::npos && letter != '\0') {
    at_ += 2;
    set = CharacterSet::named(in_class && lower == 'w' ? "[:word:]" : std::string{'\\', lower});
  } else if (lower == 'p' && peek(2) == '{') {
    at_ += 3;
    if (accept("^")) negated = !negated;
    const std::string name = until("}");
    set = CharacterSet::named(property_key(name));
    if (!set) refuse("the property \"" + name + "\", which the tokenizers library does not know either, or");
  }
  if (set && negated) set->negate();
  return set;
}

char32_t RegexReader::escaped_character(bool in_class) {
  if (peek(1) == '\0' && at_ + 1 >= source_.size()) refuse("a backslash at its end");
  const char letter = peek(1);
  constexpr std::string_view kLetters = "tnrfvae", kControls = "\t\n\r\f\v\a\x1b";
  if (const std::size_t known = kLetters.find(letter); known != std::string_view::npos) {
    at_ += 2;
    return static_cast<unsigned char>(kControls[known]);
  }
  if (in_class && letter == 'b') {
    at_ += 2;
    return 8;
  }
  if (letter == 'c') return control(2);
  if (letter == 'C' && peek(2) == '-') return control(3);
  if (letter == 'M' && peek(2) == '-') refuse("\\M-");
  if (letter == 'x') return hexadecimal();
  if (letter == 'o' && peek(2) == '{') {
    at_ += 3;
    return from_digits(until("}"), 8);
  }
  if (letter == 'u') {
    at_ += 2;
    const std::string found = digits(kHexadecimal, 4);
    if (found.size() != 4) refuse("\\u without four hexadecimal digits");
    return from_digits(found, 16);
  }
  at_ += 1;
  if (kOctal.find(letter) != std::string_view::npos) return octal(3);
  return next();
}

char32_t RegexReader::control(std::size_t prefix) {
  at_ += prefix;
  const char c = peek();
  if (at_end() || c == '\\' || static_cast<unsigned char>(c) >= 0x80)
    refuse("\\c without an ASCII character");
  at_ += 1;
  return c == '?' ? 0x7F : static_cast<unsigned char>(c) & 0x1F;
}

char32_t RegexReader::hexadecimal() {
  at_ += 2;
  if (accept("{")) {
    const std::string inner = until("}");
    if (inner.find_first_not_of(kHexadecimal) != std::string::npos) refuse("\\x{" + inner + "}");
    return from_digits(inner, 16);
  }
  const std::string found = digits(kHexadecimal, 2);
  if (found.empty()) return 'x';
  return byte_character(from_digits(found, 16));
}

char32_t RegexReader::octal(std::size_t most) {
  const char32_t value = from_digits(digits(kOctal, most), 8);
  if (value > 0xFF) refuse("an octal number above \\377");
  return byte_character(value);
}

// Two digits are a byte of UTF-8, not a character.
char32_t RegexReader::byte_character(unsigned first) {
  if (first < 0x80) return first;
  std::string bytes(1, static_cast<char>(first));
  while (!is_valid_utf8(bytes)) {
    std::string found;
    if (bytes.size() < 4 && accept("\\x"))
      found = digits(kHexadecimal, 2);
    else if (bytes.size() < 4 && peek() == '\\' && kOctal.find(peek(1)) != std::string_view::npos &&
             (++at_, true))
      found = str("0", digits(kOctal, 3));
    if (found.empty()) refuse("\\x or an octal number above 7F that is no part of a character in UTF-8");
    const bool is_octal = found.size() > 2;
    bytes += static_cast<char>(from_digits(found, is_octal ? 8 : 16));
  }
  std::size_t at = 0;
  return next_code_point(bytes, at);
}

std::optional<RegexReader::Interval> RegexReader::interval() {
  const std::size_t start = at_;
  accept("{");
  const std::string low = digits(kDecimal, 6);
  const bool is_range = accept(",");
  const std::string high = is_range ? digits(kDecimal, 6) : "";
  if ((low.empty() && high.empty()) || !accept("}")) {
    at_ = start;
    return std::nullopt;
  }
  if (!low.empty() && !high.empty() && std::stol(low) > std::stol(high))
    refuse("a repeat whose least number is above its greatest");
  return Interval{"{" + (low.empty() ? "0" : low) + (is_range ? "," + high : "") + "}", !is_range};
}

}  // namespace ithaca
