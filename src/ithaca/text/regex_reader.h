// The characters, escapes and bracket classes of a regular expression in Oniguruma's own syntax, for
// regex_rewrite.cpp.
#pragma once
#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "ithaca/text/character_set.h"

namespace ithaca {

class RegexReader {
 public:
  // `source` is valid UTF-8; errors name `where`.
  RegexReader(std::string_view source, const std::string& where) : source_(source), where_(where) {}

  bool at_end() const { return at_ == source_.size(); }
  // The byte `ahead` of the next one, NUL behind the end.
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }
  bool starts_with(std::string_view text) const { return source_.substr(at_).starts_with(text); }
  bool accept(std::string_view text);  // moves on if it comes next
  void skip(std::size_t bytes) { at_ = std::min(at_ + bytes, source_.size()); }
  char32_t next();                              // one character
  std::string until(std::string_view closing);  // moves behind it; UserError if it does not come

  // At a backslash: \d \D \h \H \s \S \w \W \p{name} \P{name}, if that is what stands here. In a class \w is
  // [:word:], which has six characters less (U+00B2 and others).
  std::optional<CharacterSet> escaped_set(bool in_class);
  // At a backslash: the character that the escape stands for.
  char32_t escaped_character(bool in_class);

  // {n} {n,} {n,m} {,m} as PCRE2 writes it; nothing (and no move) if the brace is a character.
  struct Interval {
    std::string text;
    bool is_exact;  // {n}
  };
  std::optional<Interval> interval();

  [[noreturn]] void refuse(const std::string& what) const;

 private:
  std::string digits(std::string_view allowed, std::size_t most);
  char32_t from_digits(const std::string& digits, int base) const;
  char32_t hexadecimal();
  char32_t octal(std::size_t most);
  char32_t byte_character(unsigned first);
  char32_t control(std::size_t prefix);

  std::string_view source_;
  const std::string& where_;
  std::size_t at_ = 0;
};

// A class from its "[" to its "]".
struct BracketClass {
  CharacterSet set;  // without the outermost ^
  bool negated = false;
};
BracketClass read_bracket(RegexReader& reader);

}  // namespace ithaca
