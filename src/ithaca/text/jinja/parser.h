// From tokens to nodes: Jinja's grammar as transformers sets it up (loop controls, {% generation %}), without
// what reaches other files (include, import, extends, block), which is refused by name.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/text/jinja/lexer.h"
#include "ithaca/text/jinja/macro.h"
#include "ithaca/text/jinja/statement.h"

namespace ithaca::jinja {

// `source` is valid UTF-8. The names in the body have their places. Failure, whose text begins with
// "line N: ", if it is no template.
struct ParsedTemplate {
  Body body;
  std::vector<Load> loads;
  std::size_t slot_count = 0;
};
ParsedTemplate parse_template(std::string_view source);

// What both halves of the parser stand on: the tokens and how far they are read.
class TokenReader {
 public:
  explicit TokenReader(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_operator(std::string_view text) const { return at(TokenKind::kOperator) && current().text == text; }
  bool at_name(std::string_view text) const { return at(TokenKind::kName) && current().text == text; }
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_operator(std::string_view text);
  void expect_name(std::string_view text);
  std::string take_name(std::string_view what);
  [[noreturn]] void fail(const std::string& message) const { fail(message, current().line); }
  [[noreturn]] static void fail(const std::string& message, int line);
  [[noreturn]] void fail_expected(std::string_view what) const;
  static std::string shown(const Token& token);

  // Counts how deep the parser has called itself.
  class Nesting {
   public:
    explicit Nesting(TokenReader& reader);
    ~Nesting() { --reader_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    TokenReader& reader_;
  };

 private:
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int nesting_ = 0;
};

class ExpressionParser : protected TokenReader {
 public:
  using TokenReader::TokenReader;

 protected:
  // Where an expression without brackets around it ends; `stop`: at this name too.
  ExprPtr tuple(bool with_condition = true, std::string_view stop = "", bool in_brackets = false);
  ExprPtr expression(bool with_condition = true) { return with_condition ? conditional() : disjunction(); }
  // The filters behind a {% filter %} or {% set %} block's head; null if there are none.
  std::unique_ptr<FilterExpr> block_filter(bool begins_with_name);
  std::unique_ptr<CallExpr> call(ExprPtr callee);
  bool at_tuple_end(std::string_view stop) const;

  // Names in the text so far that Jinja gives to macros.
  struct MacroNames {
    bool caller = false, kwargs = false, varargs = false;
  };
  MacroNames macro_names;

 private:
  ExprPtr conditional();
  ExprPtr disjunction();
  ExprPtr conjunction();
  ExprPtr negation();
  ExprPtr comparison();
  bool comparison_operator(Comparison& found);
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filters = true);
  ExprPtr primary();
  ExprPtr name();
  ExprPtr list();
  ExprPtr dict();
  ExprPtr postfix(ExprPtr node);
  ExprPtr filters(ExprPtr node);
  ExprPtr attribute(ExprPtr node);
  ExprPtr subscript(ExprPtr node);
  std::unique_ptr<FilterExpr> filter(ExprPtr input);
  ExprPtr test(ExprPtr node);
  CallArguments arguments();
  void argument(CallArguments& list);
  std::string dotted_name(std::string_view what);
  // Notes how deep the tree below a finished node is.
  template <class Node>
  static std::unique_ptr<Node> done(std::unique_ptr<Node> node, int depth_below) {
    node->depth = depth_below + 1;
    if (node->depth > kMaxSourceDepth) fail_depth(node->line);
    return node;
  }
  [[noreturn]] static void fail_depth(int line);
  static int depth_of(const ExprPtr& a) { return a ? a->depth : 0; }
  static int depth_of(const ExprPtr& a, const ExprPtr& b) { return std::max(depth_of(a), depth_of(b)); }
};

}  // namespace ithaca::jinja
