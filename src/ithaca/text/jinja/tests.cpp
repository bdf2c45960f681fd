#include <algorithm>
#include <array>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/expression.h"
#include "ithaca/text/jinja/format.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/text.h"

namespace ithaca::jinja {
namespace {

void require_no_arguments(const Arguments& arguments) {
  bind_arguments("the test", arguments, {});
}

template <bool (*holds)(const Value&)>
bool of_value(Run&, const Value& input, const Arguments& arguments) {
  require_no_arguments(arguments);
  return holds(input);
}

template <Kind kind>
bool is_kind(const Value& value) {
  return value.is(kind);
}
bool is_defined(const Value& value) {
  return !value.is(Kind::kUndefined);
}
bool is_true(const Value& value) {
  return value.is(Kind::kBool) && value.as_integer() != 0;
}
bool is_false(const Value& value) {
  return value.is(Kind::kBool) && value.as_integer() == 0;
}
bool is_number_value(const Value& value) {
  return value.is_number();
}
bool is_string_value(const Value& value) {
  return value.is_text();
}
bool is_sequence(const Value& value) {
  return value.is_text() || (!value.is(Kind::kView) && length_of(value));
}
bool is_callable(const Value& value) {
  return value.is(Kind::kFunction) || value.is(Kind::kMethod) || value.is(Kind::kMacro) ||
         value.is(Kind::kLoop) || value.is(Kind::kUndefined);
}

template <bool (*holds)(std::string_view)>
bool of_text(Run& run, const Value& input, const Arguments& arguments) {
  require_no_arguments(arguments);
  return holds(str_of(input, run.budget));
}

Value remainder(Run& run, const Value& input, const Value& by) {
  return arithmetic(Arithmetic::kModulo, input, by, run.budget);
}
bool is_odd(Run& run, const Value& input, const Arguments& arguments) {
  require_no_arguments(arguments);
  return equal(remainder(run, input, Value::integer(2)), Value::integer(1), run.budget);
}
bool is_even(Run& run, const Value& input, const Arguments& arguments) {
  require_no_arguments(arguments);
  return equal(remainder(run, input, Value::integer(2)), Value::integer(0), run.budget);
}
bool is_divisible(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the test divisibleby", arguments, {"num"}, 1);
  return equal(remainder(run, input, bound[0]), Value::integer(0), run.budget);
}

template <Comparison comparison>
bool compares(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the test", arguments, {"other"});
  if (arguments.positional.empty() && arguments.named.empty())
    throw Failure("the test lacks the value to compare with");
  return compare(comparison, input, bound[0], run.budget);
}

bool is_same(Run&, const Value& input, const Arguments& arguments) {
  const Value other = bind_arguments("the test sameas", arguments, {"other"}, 1)[0];
  if (input.kind() != other.kind()) return false;
  if (input.is(Kind::kNone)) return true;
  if (input.is(Kind::kBool)) return input.as_integer() == other.as_integer();
  if (input.is_number() || input.is_text())
    throw Failure("the test \"sameas\" of two numbers or strings is not supported (compare them with ==)");
  return input.shared() && input.shared() == other.shared();
}

bool is_filter(Run&, const Value& input, const Arguments& arguments) {
  require_no_arguments(arguments);
  return input.is_text() && find_filter(input.text());
}
bool is_test(Run&, const Value& input, const Arguments& arguments) {
  require_no_arguments(arguments);
  return input.is_text() && find_test(input.text());
}

constexpr std::array<Test, 39> kTests{{{"defined", &of_value<&is_defined>},
                                       {"undefined", &of_value<&is_kind<Kind::kUndefined>>},
                                       {"none", &of_value<&is_kind<Kind::kNone>>},
                                       {"boolean", &of_value<&is_kind<Kind::kBool>>},
                                       {"true", &of_value<&is_true>},
                                       {"false", &of_value<&is_false>},
                                       {"integer", &of_value<&is_kind<Kind::kInt>>},
                                       {"float", &of_value<&is_kind<Kind::kFloat>>},
                                       {"number", &of_value<&is_number_value>},
                                       {"string", &of_value<&is_string_value>},
                                       {"mapping", &of_value<&is_kind<Kind::kDict>>},
                                       {"iterable", &of_value<&is_iterable>},
                                       {"sequence", &of_value<&is_sequence>},
                                       {"callable", &of_value<&is_callable>},
                                       {"escaped", &of_value<&is_kind<Kind::kMarkup>>},
                                       {"lower", &of_text<&is_lower>},
                                       {"upper", &of_text<&is_upper>},
                                       {"odd", &is_odd},
                                       {"even", &is_even},
                                       {"divisibleby", &is_divisible},
                                       {"sameas", &is_same},
                                       {"filter", &is_filter},
                                       {"test", &is_test},
                                       {"in", &compares<Comparison::kIn>},
                                       {"==", &compares<Comparison::kEqual>},
                                       {"eq", &compares<Comparison::kEqual>},
                                       {"equalto", &compares<Comparison::kEqual>},
                                       {"!=", &compares<Comparison::kUnequal>},
                                       {"ne", &compares<Comparison::kUnequal>},
                                       {"<", &compares<Comparison::kLess>},
                                       {"lt", &compares<Comparison::kLess>},
                                       {"lessthan", &compares<Comparison::kLess>},
                                       {"<=", &compares<Comparison::kLessEqual>},
                                       {"le", &compares<Comparison::kLessEqual>},
                                       {">", &compares<Comparison::kGreater>},
                                       {"gt", &compares<Comparison::kGreater>},
                                       {"greaterthan", &compares<Comparison::kGreater>},
                                       {">=", &compares<Comparison::kGreaterEqual>},
                                       {"ge", &compares<Comparison::kGreaterEqual>}}};

}  // namespace

const Test* find_test(std::string_view name) {
  const auto at =
      std::find_if(kTests.begin(), kTests.end(), [&](const Test& row) { return row.name == name; });
  return at == kTests.end() ? nullptr : &*at;
}

}  // namespace ithaca::jinja
