#include "ithaca/text/jinja/expression.h"

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/format.h"

namespace ithaca::jinja {
namespace {

void names_of(const std::vector<ExprPtr>& expressions, NameVisitor& visitor) {
  for (const ExprPtr& expression : expressions) expression->names(visitor);
}

Value evaluate_or_none(const ExprPtr& expression, Run& run, Frame& frame) {
  return expression ? expression->evaluate(run, frame) : Value::none();
}

}  // namespace

void NameVisitor::missing(const std::string& what, int line) const {
  if (!declares_ && !may_be_skipped_) throw Failure(str("line ", line, ": ", what));
}

void declare_names(Expr& expression, Scope& scope) {
  NameVisitor visitor(scope, true, false);
  expression.names(visitor);
}

void bind_names(Expr& expression, Scope& scope, bool may_be_skipped) {
  NameVisitor visitor(scope, false, may_be_skipped);
  expression.names(visitor);
}

void CallArguments::names(NameVisitor& visitor) {
  names_of(positional, visitor);
  for (const auto& [name, value] : named) value->names(visitor);
  if (more_positional) more_positional->names(visitor);
  if (more_named) more_named->names(visitor);
}

int CallArguments::depth() const {
  int depth = 0;
  for (const ExprPtr& value : positional) depth = std::max(depth, value->depth);
  for (const auto& [name, value] : named) depth = std::max(depth, value->depth);
  if (more_positional) depth = std::max(depth, more_positional->depth);
  if (more_named) depth = std::max(depth, more_named->depth);
  return depth;
}

Arguments CallArguments::evaluate(Run& run, Frame& frame) const {
  Arguments arguments;
  arguments.positional.reserve(positional.size());
  for (const ExprPtr& value : positional) arguments.positional.push_back(value->evaluate(run, frame));
  if (more_positional)
    for (Value& value : list_of(more_positional->evaluate(run, frame), run.budget))
      arguments.positional.push_back(std::move(value));
  for (const auto& [name, value] : named) arguments.named.emplace_back(name, value->evaluate(run, frame));
  if (more_named) {
    const Value more = more_named->evaluate(run, frame);
    if (!more.is(Kind::kDict)) throw Failure(str("** needs a dict, found a value of type ", type_name(more)));
    for (const auto& [key, value] : more.as<Dict>().entries()) {
      run.budget.step();
      arguments.named.emplace_back(text_argument("a keyword of **", key), value);
    }
  }
  return arguments;
}

Value Literal::eval(Run&, Frame&) const {
  return value;
}

Value Name::eval(Run&, Frame& frame) const {
  const Value& value = slot.in(frame);
  return given(value) ? value : Value::undefined(str('\'', name, "' is undefined"));
}

void SequenceLiteral::names(NameVisitor& visitor) {
  names_of(items, visitor);
}

Value SequenceLiteral::eval(Run& run, Frame& frame) const {
  run.budget.values(items.size());
  Values values;
  values.reserve(items.size());
  for (const ExprPtr& item : items) values.push_back(item->evaluate(run, frame));
  return kind == Sequence::kList ? Value::list(std::move(values)) : Value::tuple(std::move(values));
}

void DictLiteral::names(NameVisitor& visitor) {
  for (const auto& [key, value] : entries) {
    key->names(visitor);
    value->names(visitor);
  }
}

Value DictLiteral::eval(Run& run, Frame& frame) const {
  run.budget.values(2 * entries.size());
  std::vector<Dict::Entry> values;
  for (const auto& [key, value] : entries) {
    Value name = key->evaluate(run, frame);
    if (name.is_text()) run.budget.text(name.text().size());
    values.emplace_back(std::move(name), value->evaluate(run, frame));
  }
  return Value::dict(std::move(values));
}

Value UnaryExpr::eval(Run& run, Frame& frame) const {
  const Value value = operand->evaluate(run, frame);
  if (op == Unary::kNot) return Value::boolean(!truthy(value));
  return op == Unary::kMinus ? negate(value) : plus(value);
}

void ArithmeticExpr::names(NameVisitor& visitor) {
  left->names(visitor);
  right->names(visitor);
}

Value ArithmeticExpr::eval(Run& run, Frame& frame) const {
  const Value a = left->evaluate(run, frame);
  return arithmetic(op, a, right->evaluate(run, frame), run.budget);
}

void LogicExpr::names(NameVisitor& visitor) {
  left->names(visitor);
  right->names(visitor);
}

Value LogicExpr::eval(Run& run, Frame& frame) const {
  Value a = left->evaluate(run, frame);
  return truthy(a) == disjunction ? a : right->evaluate(run, frame);
}

void ConcatExpr::names(NameVisitor& visitor) {
  names_of(parts, visitor);
}

Value ConcatExpr::eval(Run& run, Frame& frame) const {
  std::string text;
  for (const ExprPtr& part : parts) {
    const Value value = part->evaluate(run, frame);
    if (value.is(Kind::kMarkup))
      throw Failure("text marked as safe is joined with ~, which is not supported");
    append_str(text, value, run.budget);
  }
  return Value::string(std::move(text));
}

bool compare(Comparison comparison, const Value& a, const Value& b, Budget& budget) {
  switch (comparison) {
    case Comparison::kEqual:
      return equal(a, b, budget);
    case Comparison::kUnequal:
      return !equal(a, b, budget);
    case Comparison::kLess:
      return less(a, b, budget);
    case Comparison::kGreater:
      return less(b, a, budget);
    // NaN is neither less nor greater nor equal.
    case Comparison::kLessEqual:
      return less(a, b, budget) || equal(a, b, budget);
    case Comparison::kGreaterEqual:
      return less(b, a, budget) || equal(a, b, budget);
    case Comparison::kIn:
      return contains(b, a, budget);
    case Comparison::kNotIn:
      return !contains(b, a, budget);
  }
  return false;
}

void CompareExpr::names(NameVisitor& visitor) {
  first->names(visitor);
  for (const auto& [comparison, operand] : rest) operand->names(visitor);
}

Value CompareExpr::eval(Run& run, Frame& frame) const {
  Value left = first->evaluate(run, frame);
  for (const auto& [comparison, operand] : rest) {
    Value right = operand->evaluate(run, frame);
    if (!compare(comparison, left, right, run.budget)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

void ConditionalExpr::names(NameVisitor& visitor) {
  NameVisitor inner = visitor.within_condition();
  yes->names(inner);
  test->names(inner);
  if (no) no->names(inner);
}

Value ConditionalExpr::eval(Run& run, Frame& frame) const {
  if (truthy(test->evaluate(run, frame))) return yes->evaluate(run, frame);
  if (no) return no->evaluate(run, frame);
  return Value::undefined(
      str("the inline if-expression on line ", line, " evaluated to false and no else section was defined."));
}

Value AttributeExpr::eval(Run& run, Frame& frame) const {
  return attribute_of(run, object->evaluate(run, frame), name, methods);
}

void ElementExpr::names(NameVisitor& visitor) {
  object->names(visitor);
  index->names(visitor);
}

Value ElementExpr::eval(Run& run, Frame& frame) const {
  const Value container = object->evaluate(run, frame);
  const Value key = index->evaluate(run, frame);
  return item_of(run, container, key);
}

void SliceExpr::names(NameVisitor& visitor) {
  object->names(visitor);
  for (const ExprPtr* bound : {&start, &stop, &step})
    if (*bound) (*bound)->names(visitor);
}

Value SliceExpr::eval(Run& run, Frame& frame) const {
  const Value container = object->evaluate(run, frame);
  const Value from = evaluate_or_none(start, run, frame), to = evaluate_or_none(stop, run, frame);
  return slice(container, from, to, evaluate_or_none(step, run, frame), run.budget);
}

void CallExpr::names(NameVisitor& visitor) {
  callee->names(visitor);
  arguments.names(visitor);
}

Value CallExpr::call(Run& run, Frame& frame, const Value* caller) const {
  const auto evaluate_arguments = [&] {
    Arguments values = arguments.evaluate(run, frame);
    if (caller) values.named.emplace_back("caller", *caller);
    return values;
  };
  // A method that is called at once need not become a value first.
  if (const auto* attribute = dynamic_cast<const AttributeExpr*>(callee.get())) {
    const Value object = attribute->object->evaluate(run, frame);
    const Method* method = method_of(object, attribute->methods);
    if (method && method->call != &refuse_change) {
      const Arguments values = evaluate_arguments();
      run.line = line;
      return call_method(run, object, *method, values);
    }
    const Value function = attribute_of(run, object, attribute->name, attribute->methods);
    return call_value(run, function, evaluate_arguments());
  }
  const Value function = callee->evaluate(run, frame);
  const Arguments values = evaluate_arguments();
  run.line = line;
  return call_value(run, function, values);
}

void FilterExpr::names(NameVisitor& visitor) {
  if (!filter) visitor.missing(str("the filter \"", name, "\" is not supported"), line);
  if (input) input->names(visitor);
  arguments.names(visitor);
}

Value FilterExpr::apply(const Value& value, Run& run, Frame& frame) const {
  if (!filter) throw Failure(str("the filter \"", name, "\" is not supported"));
  const Arguments values = arguments.evaluate(run, frame);
  run.line = line;
  return filter->apply(run, value, values);
}

Value FilterExpr::apply_to_text(const Value& text, Run& run, Frame& frame) const {
  if (!input) return apply(text, run, frame);
  return apply(static_cast<const FilterExpr&>(*input).apply_to_text(text, run, frame), run, frame);
}

Value FilterExpr::eval(Run& run, Frame& frame) const {
  return apply(input->evaluate(run, frame), run, frame);
}

void TestExpr::names(NameVisitor& visitor) {
  if (!test) visitor.missing(str("the test \"", name, "\" is not supported"), line);
  input->names(visitor);
  arguments.names(visitor);
}

Value TestExpr::eval(Run& run, Frame& frame) const {
  if (!test) throw Failure(str("the test \"", name, "\" is not supported"));
  const Value value = input->evaluate(run, frame);
  const Arguments values = arguments.evaluate(run, frame);
  run.line = line;
  return Value::boolean(test->holds(run, value, values));
}

}  // namespace ithaca::jinja
