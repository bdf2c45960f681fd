#include "ithaca/text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/budget.h"
#include "ithaca/text/jinja/text.h"
#include "ithaca/text/unicode.h"

namespace ithaca::jinja {
namespace {

constexpr std::array<std::string_view, 26> kOperators{"**", "//", "==", "!=", ">=", "<=", "+", "-", "*",
                                                      "/",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

bool is_digit_byte(char c) {
  return c >= '0' && c <= '9';
}

std::string with_line_feeds(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

int hex_value(char c) {
  if (is_digit_byte(c)) return c - '0';
  const char low = static_cast<char>(c | 0x20);
  return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), in_(source_) {}

  std::vector<Token> run() {
    while (at_ < in_.size()) data();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw Failure(str("line ", line_, ": ", message));
  }

  bool starts(std::string_view part, std::size_t offset = 0) const {
    return in_.substr(std::min(at_ + offset, in_.size())).starts_with(part);
  }
  void add(TokenKind kind, std::string_view text) { tokens_.push_back({kind, line_, std::string(text), {}}); }
  void advance(std::size_t bytes) {
    const std::string_view passed = in_.substr(at_, bytes);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    at_ += passed.size();
    if (!passed.empty()) line_starting_ = passed.back() == '\n';
  }
  // How many bytes of white space begin `offset` bytes from here.
  std::size_t space(std::size_t offset) const {
    const std::string_view rest = in_.substr(std::min(at_ + offset, in_.size()));
    return rest.size() - strip(rest, Side::kLeft).size();
  }

  // Text up to the next tag, then that tag.
  void data() {
    std::size_t tag = in_.find('{', at_);
    while (tag != std::string_view::npos &&
           (tag + 1 >= in_.size() || std::string_view("{%#").find(in_[tag + 1]) == std::string_view::npos))
      tag = in_.find('{', tag + 1);
    if (tag == std::string_view::npos) {
      text(in_.substr(at_));
      return advance(in_.size() - at_);
    }
    const char kind = in_[tag + 1];
    const char sign =
        tag + 2 < in_.size() && (in_[tag + 2] == '-' || in_[tag + 2] == '+') ? in_[tag + 2] : ' ';
    text(stripped(in_.substr(at_, tag - at_), sign, kind == '{'));
    advance(tag - at_);
    const std::size_t opening = sign == ' ' ? 2 : 3;
    if (kind == '#') return comment(opening);
    if (kind == '%' && raw(opening)) return;
    add(kind == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
    advance(opening);
    tag_content(kind == '{' ? '}' : '%');
  }

  std::string_view stripped(std::string_view text, char sign, bool is_variable) const {
    if (sign == '-') return strip(text, Side::kRight);
    if (sign == '+' || is_variable) return text;
    const std::size_t line = text.rfind('\n') + 1;  // 0 where there is none
    if (line == 0 && !line_starting_) return text;
    return strip(text.substr(line)).empty() ? text.substr(0, line) : text;
  }

  void text(std::string_view content) {
    if (!content.empty()) add(TokenKind::kData, content);
  }

  // The bytes of a tag's end at `offset` with what it swallows; 0 if it does not end there.
  std::size_t end_of_tag(std::string_view end, std::size_t offset, bool trims) const {
    if (starts("-", offset) && starts(end, offset + 1))
      return 1 + end.size() + space(offset + 1 + end.size());
    if (trims && starts("+", offset) && starts(end, offset + 1)) return 1 + end.size();
    if (!starts(end, offset)) return 0;
    return end.size() + (trims && starts("\n", offset + end.size()) ? 1 : 0);
  }

  void comment(std::size_t opening) {
    const std::size_t end = in_.find("#}", at_ + opening);
    if (end == std::string_view::npos) {
      if (at_ + opening < in_.size()) fail("a comment {# has no end #}");
      return advance(opening);  // Jinja lets the very end pass
    }
    std::size_t offset = end - at_;
    if (offset > opening && (in_[end - 1] == '-' || in_[end - 1] == '+')) --offset;
    advance(offset + end_of_tag("#}", offset, true));
  }

  // {% raw %} ... {% endraw %}; false if the tag is another one.
  bool raw(std::size_t opening) {
    std::size_t offset = opening + space(opening);
    if (!starts("raw", offset)) return false;
    offset += 3;
    offset += space(offset);
    if (starts("-%}", offset))
      offset += 3 + space(offset + 3);
    else if (starts("%}", offset))
      offset += 2;
    else
      return false;
    advance(offset);
    if (at_ == in_.size()) return true;  // Jinja lets the very end pass
    for (std::size_t tag = in_.find("{%", at_); tag != std::string_view::npos;
         tag = in_.find("{%", tag + 2)) {
      std::size_t inner = tag - at_ + 2;
      const char sign = starts("-", inner) ? '-' : starts("+", inner) ? '+' : ' ';
      if (sign != ' ') ++inner;
      inner += space(inner);
      if (!starts("endraw", inner)) continue;
      inner += 6;
      inner += space(inner);
      const std::size_t end = end_of_tag("%}", inner, true);
      if (end == 0) continue;
      text(stripped(in_.substr(at_, tag - at_), sign, false));
      advance(inner + end);
      return true;
    }
    fail("{% raw %} has no {% endraw %}");
  }

  void tag_content(char close) {
    const std::string_view end = close == '}' ? "}}" : "%}";
    std::string open;  // brackets that wait for their ends
    while (at_ < in_.size()) {
      if (const std::size_t white = space(0); white > 0) {
        advance(white);
        continue;
      }
      if (open.empty()) {
        if (const std::size_t bytes = end_of_tag(end, 0, close == '%'); bytes > 0) {
          add(close == '}' ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, "");
          return advance(bytes);
        }
      }
      if (!number() && !name() && !string()) operation(open);
    }
  }

  // Digits with single underscores between them, from `offset`; how many bytes.
  std::size_t digits(std::size_t offset, int base) const {
    std::size_t length = 0;
    const auto digit = [&](std::size_t i) {
      const std::size_t where = at_ + offset + i;
      const int value = where < in_.size() ? hex_value(in_[where]) : -1;
      return value >= 0 && value < base;
    };
    while (digit(length) || (length > 0 && starts("_", offset + length) && digit(length + 1))) ++length;
    return length;
  }

  bool number() {
    if (!is_digit_byte(in_[at_])) return false;
    const std::size_t whole = digits(0, 10);
    std::size_t length = whole;
    if (const std::size_t fraction = starts(".", whole) ? digits(whole + 1, 10) : 0; fraction > 0)
      length += 1 + fraction;
    if (starts("e", length) || starts("E", length)) {
      const std::size_t sign = starts("+", length + 1) || starts("-", length + 1) ? 1 : 0;
      if (const std::size_t exponent = digits(length + 1 + sign, 10); exponent > 0)
        length += 1 + sign + exponent;
    }
    const bool after_dot = at_ > 0 && in_[at_ - 1] == '.';  // a.1.2 is a['1']['2']
    if (length == whole || after_dot) return integer();
    std::string text = without_underscores(length);
    add(TokenKind::kNumber, text);
    tokens_.back().number = Value::real(std::strtod(text.c_str(), nullptr));
    advance(length);
    return true;
  }

  std::string without_underscores(std::size_t length) const {
    std::string text(in_.substr(at_, length));
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    return text;
  }

  bool integer() {
    static constexpr std::array<std::pair<char, int>, 3> kBases{{{'b', 2}, {'o', 8}, {'x', 16}}};
    std::size_t length = 0;
    int base = 10;
    for (const auto& [letter, value] : kBases) {
      if (in_[at_] != '0' || at_ + 1 >= in_.size() || (in_[at_ + 1] | 0x20) != letter) continue;
      const std::size_t digit_count = digits(starts("_", 2) ? 3 : 2, value);
      if (digit_count == 0) continue;
      base = value;
      length = digit_count + (starts("_", 2) ? 3 : 2);
    }
    if (length == 0) length = in_[at_] == '0' ? zeros() : digits(0, 10);
    const std::string text = without_underscores(length);
    errno = 0;
    const long long value = std::strtoll(text.c_str() + (base == 10 ? 0 : 2), nullptr, base);
    if (errno == ERANGE) fail("an integer needs more than 64 bits, which is not supported");
    add(TokenKind::kNumber, text);
    tokens_.back().number = Value::integer(value);
    advance(length);
    return true;
  }

  std::size_t zeros() const { return digits(0, 1); }

  bool name() {
    std::size_t end = at_;
    while (end < in_.size()) {
      std::size_t next = end;
      const char32_t c = next_code_point(in_, next);
      const bool member = c < 0x80 ? is_digit_byte(static_cast<char>(c)) || c == '_' ||
                                         ((c | 0x20u) >= 'a' && (c | 0x20u) <= 'z')
                                   : is_word_character(c);
      if (!member) break;
      end = next;
    }
    if (end == at_) return false;
    add(TokenKind::kName, in_.substr(at_, end - at_));
    advance(end - at_);
    return true;
  }

  bool string() {
    const char quote = in_[at_];
    if (quote != '\'' && quote != '"') return false;
    std::size_t end = at_ + 1;
    while (end < in_.size() && in_[end] != quote) end += in_[end] == '\\' ? 2 : 1;
    if (end >= in_.size()) fail("a string has no end");
    add(TokenKind::kString, "");
    tokens_.back().text = unescape(in_.substr(at_ + 1, end - at_ - 1));
    advance(end + 1 - at_);
    return true;
  }

  std::string unescape(std::string_view literal) const {
    static constexpr std::string_view kLetters = "abfnrtv\\'\"\n", kMeans("\a\b\f\n\r\t\v\\'\"", 10);
    std::string out;
    for (std::size_t i = 0; i < literal.size(); ++i) {
      if (literal[i] != '\\') {
        out += literal[i];
        continue;
      }
      const char c = literal[++i];
      if (const std::size_t letter = kLetters.find(c); letter != std::string_view::npos) {
        if (c != '\n') out += kMeans[letter];
      } else if (c >= '0' && c <= '7') {
        i = octal(literal, i, out);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        i = hexadecimal(literal, i, out);
      } else if (c == 'N') {
        fail("the escape \\N{...} in a string is not supported; write the character");
      } else {
        out += '\\';
        i = character(literal, i, out);
      }
    }
    return out;
  }

  // The character behind a backslash. One beyond ASCII comes out as its number: Jinja escapes such characters
  // before it reads the escapes, and the backslash in front spoils that.
  static std::size_t character(std::string_view literal, std::size_t i, std::string& out) {
    std::size_t next = i;
    const char32_t c = next_code_point(literal, next);
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else {
      const int digit_count = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
      out += digit_count == 2 ? 'x' : digit_count == 4 ? 'u' : 'U';
      for (int shift = 4 * (digit_count - 1); shift >= 0; shift -= 4)
        out += "0123456789abcdef"[(c >> shift) & 15u];
    }
    return next - 1;
  }

  static std::size_t octal(std::string_view literal, std::size_t i, std::string& out) {
    char32_t value = 0;
    std::size_t end = i;
    while (end < literal.size() && end < i + 3 && literal[end] >= '0' && literal[end] <= '7')
      value = value * 8 + static_cast<char32_t>(literal[end++] - '0');
    append_utf8(out, value);
    return end - 1;
  }

  std::size_t hexadecimal(std::string_view literal, std::size_t i, std::string& out) const {
    const std::size_t wanted = literal[i] == 'x' ? 2 : literal[i] == 'u' ? 4 : 8;
    char32_t value = 0;
    for (std::size_t k = 1; k <= wanted; ++k) {
      const int digit = i + k < literal.size() ? hex_value(literal[i + k]) : -1;
      if (digit < 0) fail("an escape in a string is cut short");
      value = value * 16 + static_cast<char32_t>(digit);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
      fail("an escape in a string is no character (a lone surrogate, or beyond U+10FFFF)");
    append_utf8(out, value);
    return i + wanted;
  }

  void operation(std::string& open) {
    for (const std::string_view candidate : kOperators) {
      if (!starts(candidate)) continue;
      const char c = candidate[0];
      if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty()) fail(str("unexpected '", c, "'"));
        if (open.back() != c) fail(str("unexpected '", c, "', expected '", open.back(), "'"));
        open.pop_back();
      }
      add(TokenKind::kOperator, candidate);
      return advance(candidate.size());
    }
    std::size_t next = at_;
    next_code_point(in_, next);
    fail(str("unexpected character '", std::string(in_.substr(at_, next - at_)), "' in a tag"));
  }

  std::string source_;
  std::string_view in_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(with_line_feeds(source)).run();
}

}  // namespace ithaca::jinja
