// A set of characters of a regular expression, built by Oniguruma's rules (unions, intersections, complements)
// and written as PCRE2 syntax that matches exactly one character of it.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ithaca {

// `c` as PCRE2 syntax that stands for itself, inside a class and outside.
std::string pcre2_character(char32_t c);

class CharacterSet {
 public:
  // "alpha", "[:alpha:]" or "\w" (oniguruma_tables.h); nothing if Oniguruma knows no such set.
  static std::optional<CharacterSet> named(std::string_view name);
  static CharacterSet any();

  void add(char32_t first, char32_t last);
  void add(const CharacterSet& other);
  void negate() { negated_ = !negated_; }
  CharacterSet intersected(const CharacterSet& other) const;

  // One atom, which a quantifier may follow.
  std::string pattern() const;

 private:
  bool is_plain() const { return complements_.empty() && parts_.empty(); }

  std::string items_;                     // what stands between [ and ]
  std::vector<std::string> complements_;  // the same; each adds what it does not hold
  std::vector<std::string> parts_;        // atoms that match one character each
  bool negated_ = false;
};

}  // namespace ithaca
