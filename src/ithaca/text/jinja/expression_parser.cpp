#include <algorithm>

#include "ithaca/text/jinja/parser.h"

namespace ithaca::jinja {

bool ExpressionParser::at_tuple_end(std::string_view stop) const {
  return at(TokenKind::kVariableEnd) || at(TokenKind::kBlockEnd) || at_operator(")") ||
         (!stop.empty() && at_name(stop));
}

ExprPtr ExpressionParser::tuple(bool with_condition, std::string_view stop, bool in_brackets) {
  const Nesting nesting(*this);
  auto items = std::make_unique<SequenceLiteral>(current().line, Sequence::kTuple);
  bool is_tuple = false;
  int depth = 0;
  while (true) {
    if (!items->items.empty()) expect_operator(",");
    if (at_tuple_end(stop)) break;
    items->items.push_back(expression(with_condition));
    depth = std::max(depth, items->items.back()->depth);
    if (!at_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return done(std::move(items), depth);
  if (!items->items.empty()) return std::move(items->items.front());
  if (!in_brackets) fail_expected("an expression");
  return items;
}

ExprPtr ExpressionParser::conditional() {
  ExprPtr value = disjunction();
  while (at_name("if")) {
    auto node = std::make_unique<ConditionalExpr>(take().line);
    node->yes = std::move(value);
    node->test = disjunction();
    if (skip_name("else")) {
      const Nesting nesting(*this);
      node->no = conditional();
    }
    const int depth = std::max(depth_of(node->yes, node->test), depth_of(node->no));
    value = done(std::move(node), depth);
  }
  return value;
}

ExprPtr ExpressionParser::disjunction() {
  ExprPtr left = conjunction();
  while (at_name("or")) {
    const int line = take().line;
    ExprPtr right = conjunction();
    const int depth = depth_of(left, right);
    left = done(std::make_unique<LogicExpr>(line, true, std::move(left), std::move(right)), depth);
  }
  return left;
}

ExprPtr ExpressionParser::conjunction() {
  ExprPtr left = negation();
  while (at_name("and")) {
    const int line = take().line;
    ExprPtr right = negation();
    const int depth = depth_of(left, right);
    left = done(std::make_unique<LogicExpr>(line, false, std::move(left), std::move(right)), depth);
  }
  return left;
}

ExprPtr ExpressionParser::negation() {
  if (!at_name("not")) return comparison();
  const Nesting nesting(*this);
  const int line = take().line;
  ExprPtr operand = negation();
  const int depth = depth_of(operand);
  return done(std::make_unique<UnaryExpr>(line, Unary::kNot, std::move(operand)), depth);
}

bool ExpressionParser::comparison_operator(Comparison& found) {
  static constexpr std::pair<std::string_view, Comparison> kComparisons[] = {
      {"==", Comparison::kEqual},     {"!=", Comparison::kUnequal}, {"<", Comparison::kLess},
      {"<=", Comparison::kLessEqual}, {">", Comparison::kGreater},  {">=", Comparison::kGreaterEqual}};
  for (const auto& [text, comparison] : kComparisons) {
    if (!skip_operator(text)) continue;
    found = comparison;
    return true;
  }
  if (skip_name("in")) {
    found = Comparison::kIn;
    return true;
  }
  if (!at_name("not") || ahead().kind != TokenKind::kName || ahead().text != "in") return false;
  take();
  take();
  found = Comparison::kNotIn;
  return true;
}

ExprPtr ExpressionParser::comparison() {
  const int line = current().line;
  ExprPtr first = sum();
  Comparison found = Comparison::kEqual;
  if (!comparison_operator(found)) return first;
  auto node = std::make_unique<CompareExpr>(line, std::move(first));
  int depth = depth_of(node->first);
  do {
    node->rest.emplace_back(found, sum());
    depth = std::max(depth, node->rest.back().second->depth);
  } while (comparison_operator(found));
  return done(std::move(node), depth);
}

ExprPtr ExpressionParser::sum() {
  ExprPtr left = concatenation();
  while (at_operator("+") || at_operator("-")) {
    const Token& sign = take();
    const Arithmetic op = sign.text == "+" ? Arithmetic::kAdd : Arithmetic::kSubtract;
    const int line = sign.line;
    ExprPtr right = concatenation();
    const int depth = depth_of(left, right);
    left = done(std::make_unique<ArithmeticExpr>(line, op, std::move(left), std::move(right)), depth);
  }
  return left;
}

ExprPtr ExpressionParser::concatenation() {
  const int line = current().line;
  ExprPtr first = product();
  if (!at_operator("~")) return first;
  auto node = std::make_unique<ConcatExpr>(line);
  int depth = depth_of(first);
  node->parts.push_back(std::move(first));
  while (skip_operator("~")) {
    node->parts.push_back(product());
    depth = std::max(depth, node->parts.back()->depth);
  }
  return done(std::move(node), depth);
}

ExprPtr ExpressionParser::product() {
  ExprPtr left = power();
  while (at_operator("*") || at_operator("/") || at_operator("//") || at_operator("%")) {
    const Token& sign = take();
    const Arithmetic op = sign.text == "*"    ? Arithmetic::kMultiply
                          : sign.text == "/"  ? Arithmetic::kDivide
                          : sign.text == "//" ? Arithmetic::kFloorDivide
                                              : Arithmetic::kModulo;
    const int line = sign.line;
    ExprPtr right = power();
    const int depth = depth_of(left, right);
    left = done(std::make_unique<ArithmeticExpr>(line, op, std::move(left), std::move(right)), depth);
  }
  return left;
}

ExprPtr ExpressionParser::power() {  // from the left, as in Jinja
  ExprPtr left = unary();
  while (at_operator("**")) {
    const int line = take().line;
    ExprPtr right = unary();
    const int depth = depth_of(left, right);
    left = done(std::make_unique<ArithmeticExpr>(line, Arithmetic::kPower, std::move(left), std::move(right)),
                depth);
  }
  return left;
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  ExprPtr node;
  if (at_operator("-") || at_operator("+")) {
    const Nesting nesting(*this);
    const Token& sign = take();
    const Unary op = sign.text == "-" ? Unary::kMinus : Unary::kPlus;
    const int line = sign.line;
    ExprPtr operand = unary(false);
    const int depth = depth_of(operand);
    node = done(std::make_unique<UnaryExpr>(line, op, std::move(operand)), depth);
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters(std::move(node)) : std::move(node);
}

}  // namespace ithaca::jinja
