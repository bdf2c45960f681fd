// What Oniguruma, the engine of the `tokenizers` library, means by each property, POSIX bracket, shorthand and
// (?i). Where PCRE2 knows the set, only what its oldest accepted version lacks is listed.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace ithaca::oniguruma {

struct Range {
  char32_t first, last;
};

// The characters of PCRE2's class item (may be empty) and of `added` ranges from `begin` on, without those of
// the `removed` ranges behind them; all others if negated (then nothing is removed).
struct Set {
  std::string_view item;
  std::uint16_t begin, added, removed;
  bool negated;
};

// A property (letters and digits only, lower case), "[:alpha:]", or "\w"; an index into sets().
struct NamedSet {
  std::string_view name;
  std::uint16_t set;
};

// (?i) takes each character of first, first + step, ..., last for the one `distance` further on.
struct FoldRun {
  char32_t first, last;
  std::int32_t step, distance;
};

// (?i) takes this text for each of these characters (0: none) and the other way round.
struct FoldText {
  std::u32string_view text;
  std::array<char32_t, 4> characters;
};

std::span<const Range> ranges();
std::span<const Set> sets();
std::span<const NamedSet> names();  // sorted by name
std::span<const FoldRun> folds();
std::span<const FoldText> fold_texts();

}  // namespace ithaca::oniguruma
