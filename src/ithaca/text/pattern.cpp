#include "ithaca/text/pattern.h"

namespace ithaca {

TextPattern::TextPattern(const JsonNode& node) {
  if (node.has("String")) {
    literal_ = node.text("String");
    if (literal_.empty()) regex_.emplace("", node.where());  // matches between any two characters
  } else if (node.has("Regex")) {
    regex_.emplace(node.text("Regex"), node.at("Regex").where());
  } else {
    node.fail("{\"String\": ...} or {\"Regex\": ...}");
  }
}

TextPattern TextPattern::regex(const std::string& expression, const std::string& where) {
  TextPattern pattern;
  pattern.regex_.emplace(expression, where);
  return pattern;
}

void TextPattern::find_all(std::string_view text, RegexScratch& scratch, std::vector<Span>& matches) const {
  if (text.empty()) return;  // in the tokenizers library nothing matches an empty text, not even nothing
  if (regex_) return regex_->find_all(text, scratch, matches);
  for (std::size_t at = 0; (at = text.find(literal_, at)) != std::string_view::npos; at += literal_.size())
    matches.push_back({at, at + literal_.size()});
}

std::string TextPattern::replace(std::string text, std::string_view content, RegexScratch& scratch) const {
  std::vector<Span> matches;
  find_all(text, scratch, matches);
  if (matches.empty()) return text;
  scratch.check_growth(text.size() + matches.size() * content.size());
  std::string out;
  out.reserve(text.size());
  std::size_t end = 0;
  for (const Span& match : matches) {
    out.append(text, end, match.begin - end).append(content);
    end = match.end;
  }
  return out.append(text, end);
}

}  // namespace ithaca
