// Oniguruma's Ruby syntax, as the `tokenizers` library uses it, to PCRE2. Where both give one spelling two
// meanings:
//   \s \w \b \h \v   other character classes (PCRE2's \s has U+180E, its \w no marks, its \h is a space)
//   \p{Han}          script extensions in PCRE2, the script in Oniguruma: \p{sc:Han}
//   a{2,3}+  a{2}?   a repeat of a repeat, possessive or lazy in PCRE2
//   a{,3}            literal in PCRE2
//   (?m)             the dot matches newlines: (?s)
//   [a[b]] [a&&b]    nested classes: refused, PCRE2 has none
#include <array>
#include <cctype>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/text/regex.h"

namespace ithaca {
namespace {

constexpr std::string_view kWordClass = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

class Rewriter {
 public:
  Rewriter(std::string_view source, const std::string& where) : in_(source), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        atom_ = out_.size();
        escape(false);
      } else if (c == '[') {
        atom_ = out_.size();
        bracket();
      } else if (c == '(') {
        open_.push_back(out_.size());
        open_group();
      } else if (c == ')') {
        if (!open_.empty()) {
          atom_ = open_.back();
          open_.pop_back();
        }
        copy();
      } else if (c == '{') {
        interval();
      } else {
        if (c != '*' && c != '+' && c != '?' && (static_cast<unsigned char>(c) & 0xC0) != 0x80)
          atom_ = out_.size();
        copy();
      }
    }
    return std::move(out_);
  }

 private:
  void copy() { out_ += in_[at_++]; }
  char peek(std::size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  [[noreturn]] void refuse(const std::string& what) const {
    throw UserError(str(where_, ": the regular expression uses ", what, ", which is not supported"));
  }

  void escape(bool in_class) {
    const char c = peek(1);
    switch (c) {
      case '\0':
        refuse("a backslash at its end");
      case 's':
        return replace(2, R"(\p{White_Space})");
      case 'S':
        return replace(2, R"(\P{White_Space})");
      case 'v':
        return replace(2, R"(\x0b)");
      case 'h':
        return replace(2, in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
      case 'H':
        if (in_class) refuse("\\H inside a class");
        return replace(2, "[^0-9A-Fa-f]");
      case 'w':
        return replace(2, in_class ? std::string(kWordClass) : "[" + std::string(kWordClass) + "]");
      case 'W':
        if (in_class) refuse("\\W inside a class");
        return replace(2, "[^" + std::string(kWordClass) + "]");
      case 'b':
      case 'B':
        if (in_class) break;
        return word_boundary(c == 'b');
      case 'u':
        return unicode_escape();
      case 'p':
      case 'P':
        return property();
      default:
        break;
    }
    copy();
    copy();
  }

  void replace(std::size_t bytes, std::string_view by) {
    at_ += bytes;
    out_ += by;
  }

  void word_boundary(bool boundary) {
    const std::string word = "[" + std::string(kWordClass) + "]";
    if (boundary)
      replace(2, "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))");
    else
      replace(2, "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))");
  }

  void unicode_escape() {
    std::string digits;
    for (std::size_t i = 2; i < 6 && std::isxdigit(static_cast<unsigned char>(peek(i))); ++i)
      digits += peek(i);
    if (digits.size() != 4) refuse("\\u without four hexadecimal digits");
    replace(6, "\\x{" + digits + "}");
  }

  // General categories keep their name; binary properties too; whatever else is a script.
  void property() {
    const std::size_t close = in_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) refuse("\\p without {name}");
    std::string name(in_.substr(at_ + 3, close - at_ - 3));
    const bool negated = !name.empty() && name[0] == '^';
    if (negated) name.erase(0, 1);
    std::string key;
    for (const char c : name)
      if (c != '_' && c != ' ' && c != '-')
        key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const bool positive = (peek(1) == 'p') != negated;
    replace(close + 1 - at_, std::string(positive ? "\\p{" : "\\P{") + pcre2_property(key, name) + "}");
  }

  static std::string pcre2_property(const std::string& key, const std::string& name) {
    static constexpr std::array<std::array<std::string_view, 2>, 23> kKnown{{{"any", "Any"},
                                                                             {"letter", "L"},
                                                                             {"mark", "M"},
                                                                             {"number", "N"},
                                                                             {"punctuation", "P"},
                                                                             {"symbol", "S"},
                                                                             {"separator", "Z"},
                                                                             {"other", "C"},
                                                                             {"uppercaseletter", "Lu"},
                                                                             {"lowercaseletter", "Ll"},
                                                                             {"titlecaseletter", "Lt"},
                                                                             {"modifierletter", "Lm"},
                                                                             {"otherletter", "Lo"},
                                                                             {"decimalnumber", "Nd"},
                                                                             {"alphabetic", "Alphabetic"},
                                                                             {"alpha", "Alphabetic"},
                                                                             {"digit", "Nd"},
                                                                             {"space", "White_Space"},
                                                                             {"whitespace", "White_Space"},
                                                                             {"upper", "Uppercase"},
                                                                             {"lower", "Lowercase"},
                                                                             {"uppercase", "Uppercase"},
                                                                             {"lowercase", "Lowercase"}}};
    if (key.size() <= 2) return name;
    for (const auto& [from, to] : kKnown)
      if (key == from) return std::string(to);
    if (key.starts_with("emoji") || key.starts_with("extendedpicto") || key.starts_with("id")) return name;
    return "sc:" + name;
  }

  void bracket() {
    copy();
    if (peek(0) == '^') copy();
    if (peek(0) == ']') replace(1, "\\]");
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '\\') {
        escape(true);
      } else if (in_[at_] == '[') {
        if (peek(1) != ':') refuse("a class inside a class");
        const std::size_t close = in_.find(":]", at_);
        if (close == std::string_view::npos) refuse("an unclosed [: :]");
        replace(close + 2 - at_, std::string(in_.substr(at_, close + 2 - at_)));
      } else {
        if (in_[at_] == '&' && peek(1) == '&') refuse("an intersection of classes (&&)");
        copy();
      }
    }
    if (at_ == in_.size()) refuse("an unclosed class");
    copy();
  }

  void open_group() {
    copy();
    if (peek(0) != '?') return;
    copy();
    if (peek(0) == '#') {
      while (at_ < in_.size() && in_[at_] != ')') copy();
      return;
    }
    // Only option letters: i, x, m, -; lookarounds, names and (?: pass as they are.
    while (std::isalpha(static_cast<unsigned char>(peek(0))) || peek(0) == '-') {
      if (peek(0) == 'm')
        replace(1, "s");
      else
        copy();
    }
  }

  // {n}, {n,}, {n,m} and {,m}; any other brace is a character.
  void interval() {
    std::size_t i = at_ + 1;
    std::string low, high;
    while (i < in_.size() && std::isdigit(static_cast<unsigned char>(in_[i]))) low += in_[i++];
    const bool range = i < in_.size() && in_[i] == ',';
    if (range)
      for (++i; i < in_.size() && std::isdigit(static_cast<unsigned char>(in_[i]));) high += in_[i++];
    if (i >= in_.size() || in_[i] != '}' || (low.empty() && high.empty())) {
      atom_ = out_.size();
      out_ += '\\';
      return copy();
    }
    at_ = i + 1;
    out_ += "{" + (low.empty() ? "0" : low) + (range ? "," + high : "") + "}";
    const char next = peek(0);
    if (next == '+' || (next == '?' && !range)) {
      out_.insert(atom_, "(?:");
      out_ += ")";
      copy();
    }
  }

  std::string_view in_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_ = 0;           // where in out_ the last atom, which a quantifier would repeat, begins
  std::vector<std::size_t> open_;  // where in out_ each open group begins
};

}  // namespace

std::string rewrite_for_pcre2(std::string_view oniguruma, const std::string& where) {
  return Rewriter(oniguruma, where).run();
}

}  // namespace ithaca
