// (?i) as Oniguruma means it: which characters it takes for one another, and for which texts (one character
// may be as good as several: U+00DF and "ss").
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/text/character_set.h"

namespace ithaca {

class CaseFolding {
 public:
  CaseFolding();

  // An atom that matches `c` and its mates.
  std::string character(char32_t c) const;
  // The pattern of a run of literal characters. `several`: one character may stand for several.
  std::string literal(std::u32string_view text, bool several) const;
  // A bracket class, without its ^, and what it means with it or without.
  std::string bracket(CharacterSet set, bool negated, bool several) const;

 private:
  bool same(char32_t a, char32_t b) const;
  std::string any_of(const std::vector<char32_t>& characters) const;

  std::map<char32_t, std::vector<char32_t>> mates_;
};

}  // namespace ithaca
