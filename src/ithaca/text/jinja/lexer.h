// A template's source as tokens, with the white space around tags taken away as Jinja does under
// trim_blocks and lstrip_blocks, which transformers sets.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

enum class TokenKind : std::uint8_t {
  kData,  // text between tags
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kNumber,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // of data, a name, a string (without quotes and escapes), an operator
  Value number;
};

// `source` is valid UTF-8. Failure, whose text begins with "line N: ", if it is not the text of a template.
std::vector<Token> tokenize(std::string_view source);

}  // namespace ithaca::jinja
