#include "ithaca/text/jinja/macro.h"

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/format.h"

namespace ithaca::jinja {
namespace {

Value macro_value(const MacroCode& code, Frame& frame) {
  auto macro = std::make_shared<Macro>();
  macro->code = &code;
  macro->frame = frame.weak_from_this();
  return Value::object(Kind::kMacro, std::move(macro));
}

// Takes the argument of this name out of the list.
Value take_named(std::vector<std::pair<std::string, Value>>& named, const std::string& name) {
  const auto at =
      std::find_if(named.begin(), named.end(), [&](const auto& entry) { return entry.first == name; });
  if (at == named.end()) return Value();
  Value value = std::move(at->second);
  named.erase(at);
  return value;
}

Value dict_of(std::vector<std::pair<std::string, Value>> named) {
  std::vector<Dict::Entry> entries;
  for (auto& [name, value] : named) entries.emplace_back(Value::string(name), std::move(value));
  return Value::dict(std::move(entries));
}

}  // namespace

bool MacroCode::has_parameter(const std::string& wanted) const {
  return std::any_of(parameters.begin(), parameters.end(),
                     [&](const Parameter& parameter) { return parameter.name == wanted; });
}

void MacroCode::bind(Scope& around) {
  Scope scope(&around, true);
  for (Parameter& parameter : parameters) parameter.slot = scope.parameter(parameter.name);
  if (uses_caller && !has_parameter("caller")) caller = scope.parameter("caller");
  if (uses_kwargs && !has_parameter("kwargs")) kwargs = scope.parameter("kwargs");
  if (uses_varargs && !has_parameter("varargs")) varargs = scope.parameter("varargs");
  for (const Parameter& parameter : parameters)
    if (parameter.fallback) declare_names(*parameter.fallback, scope);
  body.declare(scope, false);
  for (const Parameter& parameter : parameters)
    if (parameter.fallback) bind_names(*parameter.fallback, scope, false);
  body.bind(scope, false);
  loads = scope.loads();
  slot_count = scope.slot_count();
}

void MacroCode::take_arguments(Frame& frame, const Arguments& arguments) const {
  const std::string shown = name.empty() ? "the block of a call" : str("the macro \"", name, '"');
  auto named = arguments.named;
  const std::size_t by_position = std::min(arguments.positional.size(), parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i)
    parameters[i].slot.in(frame) =
        i < by_position ? arguments.positional[i] : take_named(named, parameters[i].name);
  if (uses_caller && !has_parameter("caller")) {
    const Value given_caller = take_named(named, "caller");
    caller.in(frame) = given(given_caller) ? given_caller : Value::undefined("No caller defined");
  }
  if (uses_kwargs && !has_parameter("kwargs"))
    kwargs.in(frame) = dict_of(std::move(named));
  else if (!named.empty())
    throw Failure(str(shown, " takes no keyword argument \"", named.front().first, '"'));
  if (uses_varargs && !has_parameter("varargs"))
    varargs.in(frame) = Value::tuple(Values(
        arguments.positional.begin() + static_cast<std::ptrdiff_t>(by_position), arguments.positional.end()));
  else if (arguments.positional.size() > parameters.size())
    throw Failure(str(shown, " takes not more than ", parameters.size(), " argument(s)"));
}

Value MacroCode::call(Run& run, const std::shared_ptr<Frame>& outer, const Arguments& arguments) const {
  const DepthGuard guard(run.budget);
  run.budget.values(slot_count);
  run.budget.steps(arguments.named.size() * (parameters.size() + 1));
  const auto frame = std::make_shared<Frame>(slot_count, outer);
  take_arguments(*frame, arguments);
  enter_scope(loads, run, *frame);
  for (const Parameter& parameter : parameters) {
    Value& slot = parameter.slot.in(*frame);
    if (given(slot)) continue;
    Value fallback = parameter.fallback
                         ? parameter.fallback->evaluate(run, *frame)
                         : Value::undefined(str("parameter '", parameter.name, "' was not provided"));
    parameter.slot.in(*frame) = std::move(fallback);
  }
  Capture capture(run);
  body.run(run, *frame);
  return Value::string(capture.take());
}

Value call_macro(Run& run, const Macro& macro, const Arguments& arguments) {
  const std::shared_ptr<Frame> frame = macro.frame.lock();
  if (!frame)
    throw Failure(
        str("the macro \"", macro.code->name,
            "\" is called after the macro in which it was defined has ended, which is not supported"));
  const int line = run.line;
  Value text = macro.code->call(run, frame, arguments);
  run.line = line;
  return text;
}

void MacroStmt::bind(Scope& scope, bool) {
  slot = scope.find(code.name);
  code.bind(scope);
}

Flow MacroStmt::run(Run&, Frame& frame) const {
  slot.in(frame) = macro_value(code, frame);
  return Flow::kNext;
}

void CallBlockStmt::bind(Scope& scope, bool may_be_skipped) {
  bind_names(*call, scope, may_be_skipped);
  code.bind(scope);
}

Flow CallBlockStmt::run(Run& run, Frame& frame) const {
  const Value caller = macro_value(code, frame);
  run.write(str_of(call->call(run, frame, &caller), run.budget));
  return Flow::kNext;
}

}  // namespace ithaca::jinja
