#include "ithaca/text/character_set.h"

#include <algorithm>
#include <cstdio>

#include "ithaca/text/oniguruma_tables.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::string_view kNothing = "(?!)";
constexpr std::string_view kAnything = "(?s:.)";

std::string one_of(const std::string& items) {
  return items.empty() ? std::string(kNothing) : "[" + items + "]";
}

std::string none_of(const std::string& items) {
  return items.empty() ? std::string(kAnything) : "[^" + items + "]";
}

bool is_letter_or_digit(char32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

}  // namespace

std::string pcre2_character(char32_t c) {
  if (is_letter_or_digit(c)) return std::string(1, static_cast<char>(c));
  if (c > ' ' && c < 0x7F) return {'\\', static_cast<char>(c)};
  char text[16];
  std::snprintf(text, sizeof text, "\\x{%x}", static_cast<unsigned>(c));
  return text;
}

std::optional<CharacterSet> CharacterSet::named(std::string_view name) {
  const auto names = oniguruma::names();
  const auto found = std::lower_bound(
      names.begin(), names.end(), name,
      [](const oniguruma::NamedSet& entry, std::string_view key) { return entry.name < key; });
  if (found == names.end() || found->name != name) return std::nullopt;
  const oniguruma::Set& known = oniguruma::sets()[found->set];
  CharacterSet set;
  set.items_ = known.item;
  const auto ranges = oniguruma::ranges().subspan(known.begin);
  for (const oniguruma::Range& range : ranges.first(known.added)) set.add(range.first, range.last);
  set.negated_ = known.negated;
  if (known.removed == 0) return set;
  CharacterSet removed, rest;
  for (const oniguruma::Range& range : ranges.subspan(known.added, known.removed))
    removed.add(range.first, range.last);
  rest.parts_.push_back("(?:(?!" + removed.pattern() + ")" + set.pattern() + ")");
  return rest;
}

CharacterSet CharacterSet::any() {
  CharacterSet set;
  set.negated_ = true;
  return set;
}

void CharacterSet::add(char32_t first, char32_t last) {
  items_ += pcre2_character(first);
  if (last > first) items_ += "-" + pcre2_character(last);
}

void CharacterSet::add(const CharacterSet& other) {
  if (!other.is_plain()) {
    parts_.push_back(other.pattern());
  } else if (other.negated_) {
    complements_.push_back(other.items_);
  } else {
    items_ += other.items_;
  }
}

CharacterSet CharacterSet::intersected(const CharacterSet& other) const {
  CharacterSet both;
  both.parts_.push_back("(?:(?=" + pattern() + ")" + other.pattern() + ")");
  return both;
}

// Lookaheads make intersections. Alternatives overlap, so they are atomic: else a repeat would try each
// character in every way.
std::string CharacterSet::pattern() const {
  if (is_plain()) return negated_ ? none_of(items_) : one_of(items_);
  if (!negated_) {
    if (items_.empty() && complements_.empty() && parts_.size() == 1) return parts_[0];
    if (items_.empty() && parts_.empty() && complements_.size() == 1) return none_of(complements_[0]);
    std::string text = "(?>" + one_of(items_);
    for (const std::string& items : complements_) text += "|" + none_of(items);
    for (const std::string& part : parts_) text += "|" + part;
    return text + ")";
  }
  std::string text = "(?:";
  if (!items_.empty()) text += "(?!" + one_of(items_) + ")";
  for (const std::string& part : parts_) text += "(?!" + part + ")";
  for (std::size_t i = 0; i + 1 < complements_.size(); ++i) text += "(?=" + one_of(complements_[i]) + ")";
  return text + (complements_.empty() ? std::string(kAnything) : one_of(complements_.back())) + ")";
}

}  // namespace ithaca
