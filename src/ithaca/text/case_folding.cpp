#include "ithaca/text/case_folding.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <memory>

#include "ithaca/text/oniguruma_tables.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

// Tells whether single characters match an atom.
class Membership {
 public:
  explicit Membership(const std::string& atom)
      : code_(compile(atom), &pcre2_code_free_8),
        data_(pcre2_match_data_create_8(1, nullptr), &pcre2_match_data_free_8) {}

  // False for every character if the atom is not valid: whoever compiles the whole pattern says so.
  bool contains(char32_t c) const {
    if (!code_) return false;
    std::string text;
    append_utf8(text, c);
    return pcre2_match_8(code_.get(), reinterpret_cast<PCRE2_SPTR8>(text.data()), text.size(), 0,
                         PCRE2_NO_UTF_CHECK, data_.get(), nullptr) > 0;
  }

 private:
  static pcre2_code_8* compile(const std::string& atom) {
    int error = 0;
    std::size_t offset = 0;
    return pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(atom.data()), atom.size(),
                           PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &offset, nullptr);
  }
  std::unique_ptr<pcre2_code_8, decltype(&pcre2_code_free_8)> code_;
  std::unique_ptr<pcre2_match_data_8, decltype(&pcre2_match_data_free_8)> data_;
};

std::vector<char32_t> present(const oniguruma::FoldText& entry) {
  std::vector<char32_t> characters;
  for (const char32_t c : entry.characters)
    if (c) characters.push_back(c);
  return characters;
}

}  // namespace

CaseFolding::CaseFolding() {
  for (const oniguruma::FoldRun& run : oniguruma::folds())
    for (char32_t c = run.first; c <= run.last; c += run.step)
      mates_[c].push_back(static_cast<char32_t>(static_cast<std::int64_t>(c) + run.distance));
}

bool CaseFolding::same(char32_t a, char32_t b) const {
  if (a == b) return true;
  const auto found = mates_.find(a);
  return found != mates_.end() &&
         std::find(found->second.begin(), found->second.end(), b) != found->second.end();
}

std::string CaseFolding::any_of(const std::vector<char32_t>& characters) const {
  CharacterSet set;
  for (const char32_t c : characters) set.add(c, c);
  return set.pattern();
}

std::string CaseFolding::character(char32_t c) const {
  const auto found = mates_.find(c);
  if (found == mates_.end()) return pcre2_character(c);
  std::vector<char32_t> all = found->second;
  all.push_back(c);
  return any_of(all);
}

std::string CaseFolding::literal(std::u32string_view text, bool several) const {
  std::string out;
  while (!text.empty()) {
    const oniguruma::FoldText* longest = nullptr;  // the text itself stands here
    const oniguruma::FoldText* one = nullptr;      // a character that stands for it
    for (const oniguruma::FoldText& entry : oniguruma::fold_texts()) {
      const bool here =
          text.size() >= entry.text.size() && std::equal(entry.text.begin(), entry.text.end(), text.begin(),
                                                         [&](char32_t a, char32_t b) { return same(a, b); });
      if (here && (!longest || entry.text.size() > longest->text.size())) longest = &entry;
      if (std::find(entry.characters.begin(), entry.characters.end(), text[0]) != entry.characters.end())
        one = &entry;
    }
    const oniguruma::FoldText* entry = longest ? longest : one;
    if (!several || !entry) {
      out += character(text[0]);
      text.remove_prefix(1);
      continue;
    }
    out += "(?:" + literal(entry->text, false) + "|" + any_of(present(*entry)) + ")";
    text.remove_prefix(longest ? entry->text.size() : 1);
  }
  return out;
}

std::string CaseFolding::bracket(CharacterSet set, bool negated, bool several) const {
  const Membership before(set.pattern());
  for (const auto& [c, mates] : mates_)
    if (!before.contains(c) &&
        std::any_of(mates.begin(), mates.end(), [&](char32_t mate) { return before.contains(mate); }))
      set.add(c, c);
  const Membership closed(set.pattern());
  if (negated) {
    set.negate();
    return set.pattern();
  }
  std::string texts;
  for (const oniguruma::FoldText& entry : oniguruma::fold_texts()) {
    const std::vector<char32_t> characters = present(entry);
    if (several &&
        std::any_of(characters.begin(), characters.end(), [&](char32_t c) { return closed.contains(c); }))
      texts += "|" + literal(entry.text, false);
  }
  return texts.empty() ? set.pattern() : "(?:" + set.pattern() + texts + ")";
}

}  // namespace ithaca
