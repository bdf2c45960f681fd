#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/parser.h"

namespace ithaca::jinja {

void ExpressionParser::fail_depth(int line) {
  fail(str("an expression nests deeper than the bound of ", kMaxSourceDepth, " levels"), line);
}

ExprPtr ExpressionParser::name() {
  const Token& token = take();
  const std::string& text = token.text;
  if (text == "true" || text == "True") return std::make_unique<Literal>(token.line, Value::boolean(true));
  if (text == "false" || text == "False") return std::make_unique<Literal>(token.line, Value::boolean(false));
  if (text == "none" || text == "None") return std::make_unique<Literal>(token.line, Value::none());
  macro_names.caller |= text == "caller";
  macro_names.kwargs |= text == "kwargs";
  macro_names.varargs |= text == "varargs";
  return std::make_unique<Name>(token.line, text);
}

ExprPtr ExpressionParser::primary() {
  const Token& token = current();
  switch (token.kind) {
    case TokenKind::kName:
      return name();
    case TokenKind::kNumber:
      return std::make_unique<Literal>(token.line, take().number);
    case TokenKind::kString: {
      std::string text;
      while (at(TokenKind::kString)) text += take().text;
      return std::make_unique<Literal>(token.line, Value::string(std::move(text)));
    }
    default:
      break;
  }
  if (at_operator("[")) return list();
  if (at_operator("{")) return dict();
  if (!skip_operator("(")) fail(str("unexpected ", shown(token)));
  ExprPtr node = tuple(true, "", true);
  expect_operator(")");
  return node;
}

ExprPtr ExpressionParser::list() {
  const Nesting nesting(*this);
  auto node = std::make_unique<SequenceLiteral>(take().line, Sequence::kList);
  int depth = 0;
  while (!at_operator("]")) {
    if (!node->items.empty()) expect_operator(",");
    if (at_operator("]")) break;
    node->items.push_back(expression());
    depth = std::max(depth, node->items.back()->depth);
  }
  take();
  return done(std::move(node), depth);
}

ExprPtr ExpressionParser::dict() {
  const Nesting nesting(*this);
  auto node = std::make_unique<DictLiteral>(take().line);
  int depth = 0;
  while (!at_operator("}")) {
    if (!node->entries.empty()) expect_operator(",");
    if (at_operator("}")) break;
    ExprPtr key = expression();
    expect_operator(":");
    ExprPtr value = expression();
    depth = std::max(depth, depth_of(key, value));
    node->entries.emplace_back(std::move(key), std::move(value));
  }
  take();
  return done(std::move(node), depth);
}

ExprPtr ExpressionParser::postfix(ExprPtr node) {
  while (true) {
    if (at_operator("."))
      node = attribute(std::move(node));
    else if (at_operator("["))
      node = subscript(std::move(node));
    else if (at_operator("("))
      node = call(std::move(node));
    else
      return node;
  }
}

ExprPtr ExpressionParser::filters(ExprPtr node) {
  while (true) {
    if (at_operator("|"))
      node = filter(std::move(node));
    else if (at_name("is"))
      node = test(std::move(node));
    else if (at_operator("("))
      node = call(std::move(node));
    else
      return node;
  }
}

ExprPtr ExpressionParser::attribute(ExprPtr node) {
  const int line = take().line;
  const int depth = depth_of(node);
  if (at(TokenKind::kName))
    return done(std::make_unique<AttributeExpr>(line, std::move(node), take().text), depth);
  if (!at(TokenKind::kNumber) || !current().number.is(Kind::kInt))
    fail_expected("a name or a number behind the dot");
  auto index = std::make_unique<Literal>(line, take().number);
  return done(std::make_unique<ElementExpr>(line, std::move(node), std::move(index)), depth);
}

ExprPtr ExpressionParser::subscript(ExprPtr node) {
  const Nesting nesting(*this);
  const int line = take().line;
  const auto bound = [&]() -> ExprPtr {
    return at_operator(":") || at_operator("]") ? nullptr : expression();
  };
  ExprPtr index = bound();
  if (!at_operator(":")) {
    if (!index) fail_expected("an index");
    if (at_operator(",")) fail("an index of several parts (a[b, c]) is not supported");
    expect_operator("]");
    const int depth = depth_of(node, index);
    return done(std::make_unique<ElementExpr>(line, std::move(node), std::move(index)), depth);
  }
  take();
  auto part = std::make_unique<SliceExpr>(line);
  part->object = std::move(node);
  part->start = std::move(index);
  part->stop = bound();
  if (skip_operator(":")) part->step = bound();
  expect_operator("]");
  const int depth = std::max(depth_of(part->object, part->start), depth_of(part->stop, part->step));
  return done(std::move(part), depth);
}

void ExpressionParser::argument(CallArguments& list) {
  const auto once = [&](bool in_order) {
    if (!in_order) fail("the arguments of a call are out of order: positions, names, *list, **dict");
  };
  if (skip_operator("*")) {
    once(!list.more_positional && !list.more_named);
    list.more_positional = expression();
  } else if (skip_operator("**")) {
    once(!list.more_named);
    list.more_named = expression();
  } else if (at(TokenKind::kName) && ahead().kind == TokenKind::kOperator && ahead().text == "=") {
    once(!list.more_named);
    std::string name = take().text;
    take();
    list.named.emplace_back(std::move(name), expression());
  } else {
    once(!list.more_positional && !list.more_named && list.named.empty());
    list.positional.push_back(expression());
  }
}

CallArguments ExpressionParser::arguments() {
  const Nesting nesting(*this);
  CallArguments list;
  expect_operator("(");
  bool first = true;
  while (!at_operator(")")) {
    if (!first) expect_operator(",");
    if (at_operator(")")) break;
    argument(list);
    first = false;
  }
  take();
  return list;
}

std::unique_ptr<CallExpr> ExpressionParser::call(ExprPtr callee) {
  auto node = std::make_unique<CallExpr>(current().line, std::move(callee));
  node->arguments = arguments();
  const int depth = std::max(depth_of(node->callee), node->arguments.depth());
  return done(std::move(node), depth);
}

std::string ExpressionParser::dotted_name(std::string_view what) {
  std::string text = take_name(what);
  while (skip_operator(".")) text += "." + take_name(what);
  return text;
}

std::unique_ptr<FilterExpr> ExpressionParser::filter(ExprPtr input) {
  const int line = take().line;
  auto node = std::make_unique<FilterExpr>(line, dotted_name("a filter's name"));
  node->input = std::move(input);
  if (at_operator("(")) node->arguments = arguments();
  const int depth = std::max(depth_of(node->input), node->arguments.depth());
  return done(std::move(node), depth);
}

std::unique_ptr<FilterExpr> ExpressionParser::block_filter(bool begins_with_name) {
  std::unique_ptr<FilterExpr> chain;
  if (begins_with_name) {
    chain = std::make_unique<FilterExpr>(current().line, dotted_name("a filter's name"));
    if (at_operator("(")) chain->arguments = arguments();
    const int depth = chain->arguments.depth();
    chain = done(std::move(chain), depth);
  }
  while (at_operator("|")) chain = filter(std::move(chain));
  return chain;
}

ExprPtr ExpressionParser::test(ExprPtr node) {
  const int line = take().line;
  const bool negated = skip_name("not");
  auto result = std::make_unique<TestExpr>(line, std::move(node), dotted_name("a test's name"));
  const bool operand_follows = at(TokenKind::kName) || at(TokenKind::kString) || at(TokenKind::kNumber) ||
                               at_operator("[") || at_operator("{");
  if (at_operator("(")) {
    result->arguments = arguments();
  } else if (operand_follows && !at_name("else") && !at_name("or") && !at_name("and")) {
    if (at_name("is")) fail("tests cannot be chained with `is`");
    result->arguments.positional.push_back(postfix(primary()));
  }
  const int depth = std::max(depth_of(result->input), result->arguments.depth());
  ExprPtr finished = done(std::move(result), depth);
  if (!negated) return finished;
  const int tested = depth_of(finished);
  return done(std::make_unique<UnaryExpr>(line, Unary::kNot, std::move(finished)), tested);
}

}  // namespace ithaca::jinja
