#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/parser.h"

namespace ithaca::jinja {
namespace {

int depth_of(const ExprPtr& a) {
  return a ? a->depth : 0;
}
int depth_of(const ExprPtr& a, const ExprPtr& b) {
  return std::max(depth_of(a), depth_of(b));
}

std::string shown(const Token& token) {
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

}  // namespace

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

template <class Node>
std::unique_ptr<Node> ExpressionParser::done(std::unique_ptr<Node> node, int depth_below) {
  node->depth = depth_below + 1;
  if (node->depth > kMaxSourceDepth)
    fail(str("an expression nests deeper than the bound of ", kMaxSourceDepth, " levels"), node->line);
  return node;
}

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
