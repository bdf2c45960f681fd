#include "ithaca/base/error.h"
#include "ithaca/text/jinja/parser.h"

namespace ithaca::jinja {

std::string TokenReader::shown(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "text";
    case TokenKind::kVariableBegin:
      return "{{";
    case TokenKind::kVariableEnd:
      return "}}";
    case TokenKind::kBlockBegin:
      return "{%";
    case TokenKind::kBlockEnd:
      return "%}";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return token.text;
  }
}

void TokenReader::fail(const std::string& message, int line) {
  throw Failure(str("line ", line, ": ", message));
}

void TokenReader::fail_expected(std::string_view what) const {
  fail(str("expected ", what, ", found ", shown(current())));
}

bool TokenReader::skip_operator(std::string_view text) {
  if (!at_operator(text)) return false;
  take();
  return true;
}

bool TokenReader::skip_name(std::string_view text) {
  if (!at_name(text)) return false;
  take();
  return true;
}

void TokenReader::expect_operator(std::string_view text) {
  if (!skip_operator(text)) fail_expected(text);
}

void TokenReader::expect_name(std::string_view text) {
  if (!skip_name(text)) fail_expected(text);
}

std::string TokenReader::take_name(std::string_view what) {
  if (!at(TokenKind::kName)) fail_expected(what);
  return take().text;
}

TokenReader::Nesting::Nesting(TokenReader& reader) : reader_(reader) {
  if (reader_.nesting_ >= kMaxSourceDepth)
    reader_.fail(str("the template nests deeper than the bound of ", kMaxSourceDepth, " levels"));
  ++reader_.nesting_;
}

}  // namespace ithaca::jinja
