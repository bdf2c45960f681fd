// {"String": ...} or {"Regex": ...}, and what is done with its matches.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/text/json_node.h"
#include "ithaca/text/regex.h"

namespace ithaca {

class TextPattern {
 public:
  // `node` is the object {"String": ...} or {"Regex": ...}.
  explicit TextPattern(const JsonNode& node);
  static TextPattern regex(const std::string& expression, const std::string& where);
  void find_all(std::string_view text, RegexScratch& scratch, std::vector<Span>& matches) const;
  // `text` with every match replaced by `content`.
  std::string replace(std::string text, std::string_view content, RegexScratch& scratch) const;

 private:
  TextPattern() = default;
  std::string literal_;  // used if there is no regex
  std::optional<Regex> regex_;
};

}  // namespace ithaca
