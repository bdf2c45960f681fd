#include "ithaca/config/python_json.h"

#include <array>
#include <nlohmann/json.hpp>

namespace ithaca {
namespace {

constexpr std::array<std::string_view, 3> kWords = {"NaN", "Infinity", "-Infinity"};

// Where a string that begins at `begin` ends: behind its closing quote, or at the end of the text.
std::size_t end_of_string(std::string_view text, std::size_t begin) {
  for (std::size_t at = begin + 1; at < text.size(); ++at) {
    if (text[at] == '\\')
      ++at;
    else if (text[at] == '"')
      return at + 1;
  }
  return text.size();
}

}  // namespace

Json parse_python_json(std::string_view text, const std::string& source) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '"') {
      const std::size_t end = end_of_string(text, at);
      plain += text.substr(at, end - at);
      at = end;
      continue;
    }
    std::string_view word;
    for (const std::string_view known : kWords)
      if (text.substr(at).starts_with(known)) word = known;
    if (word.empty()) {
      plain += text[at++];
    } else {
      plain.append(R"({"__float__":")").append(word).append("\"}");
      at += word.size();
    }
  }
  return parse_json(plain, source);
}

}  // namespace ithaca
