#include "ithaca/text/jinja/statement.h"

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/format.h"

namespace ithaca::jinja {
namespace {

// A body with a scope of its own; gives what its names hold when it is entered.
std::vector<Load> bind_inner(Body& body, Scope& around) {
  Scope scope(&around);
  body.declare(scope, false);
  body.bind(scope, false);
  return scope.loads();
}

// The items of a for loop that meet its condition, looked at when they are asked for.
struct ConditionIterator : Iterator {
  ConditionIterator(const ForStmt& for_statement, std::shared_ptr<Iterator> all, Run& its_run,
                    Frame& its_frame)
      : statement(for_statement), items(std::move(all)), run(its_run), frame(its_frame) {
    enter_scope(statement.test_loads, run, frame);
  }
  bool next(Value& value) override {
    while (items->next(value)) {
      run.budget.step();
      statement.test_target.assign(value, run, frame);
      if (truthy(statement.condition->evaluate(run, frame))) return true;
    }
    return false;
  }
  const ForStmt& statement;
  std::shared_ptr<Iterator> items;
  Run& run;
  Frame& frame;
};

struct FinishLoop {
  Loop& loop;
  ~FinishLoop() { loop.finish(); }
};

}  // namespace

void Body::declare(Scope& scope, bool in_branch) {
  for (const StmtPtr& statement : statements) statement->declare(scope, in_branch);
}

void Body::bind(Scope& scope, bool may_be_skipped) {
  for (const StmtPtr& statement : statements) statement->bind(scope, may_be_skipped);
}

Flow Body::run(Run& run, Frame& frame) const {
  const DepthGuard guard(run.budget);
  for (const StmtPtr& statement : statements) {
    run.budget.step();
    run.line = statement->line;
    const Flow flow = statement->run(run, frame);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

void Target::declare(Scope& scope, bool in_branch) {
  for (Target& part : parts) part.declare(scope, in_branch);
  if (is_tuple) return;
  if (attribute.empty())
    scope.store(name, in_branch);
  else
    scope.load(name);
}

void Target::declare_parameters(Scope& scope) {
  for (Target& part : parts) part.declare_parameters(scope);
  if (!is_tuple) scope.parameter(name);
}

void Target::bind(const Scope& scope) {
  for (Target& part : parts) part.bind(scope);
  if (!is_tuple) slot = scope.find(name);
}

bool Target::names_variable(const std::string& variable) const {
  for (const Target& part : parts)
    if (part.names_variable(variable)) return true;
  return !is_tuple && attribute.empty() && name == variable;
}

void Target::assign(const Value& value, Run& run, Frame& frame) const {
  if (is_tuple) {
    const Values values = list_of(value, run.budget);
    if (values.size() != parts.size())
      throw Failure(str("cannot unpack ", values.size(), " value(s) into ", parts.size(), " names"));
    for (std::size_t i = 0; i < parts.size(); ++i) parts[i].assign(values[i], run, frame);
    return;
  }
  if (attribute.empty()) {
    slot.in(frame) = value;
    return;
  }
  const Value space = slot.in(frame);
  if (!space.is(Kind::kNamespace))
    throw Failure(str("cannot set an attribute of \"", name, "\", which is no namespace"));
  if (attribute[0] == '_')
    throw Failure(str("a namespace cannot hold an attribute named \"", attribute, "\" (_)"));
  space.as<Namespace>().attributes.set(Value::string(attribute), value);
}

Flow TextStmt::run(Run& run, Frame&) const {
  run.write(text);
  return Flow::kNext;
}

Flow PrintStmt::run(Run& run, Frame& frame) const {
  const Value printed = value->evaluate(run, frame);
  if (printed.is_text())
    run.write(printed.text());
  else if (!printed.is(Kind::kUndefined))
    run.write(str_of(printed, run.budget));
  return Flow::kNext;
}

void IfStmt::declare(Scope& scope, bool) {
  for (auto& [test, body] : branches) {
    declare_names(*test, scope);
    body.declare(scope, true);
  }
  otherwise.declare(scope, true);
}

void IfStmt::bind(Scope& scope, bool) {
  for (auto& [test, body] : branches) {
    bind_names(*test, scope, true);
    body.bind(scope, true);
  }
  otherwise.bind(scope, true);
}

Flow IfStmt::run(Run& run, Frame& frame) const {
  for (const auto& [test, body] : branches)
    if (truthy(test->evaluate(run, frame))) return body.run(run, frame);
  return otherwise.run(run, frame);
}

void SetStmt::declare(Scope& scope, bool in_branch) {
  declare_names(*value, scope);
  target.declare(scope, in_branch);
}

void SetStmt::bind(Scope& scope, bool may_be_skipped) {
  bind_names(*value, scope, may_be_skipped);
  target.bind(scope);
}

Flow SetStmt::run(Run& run, Frame& frame) const {
  target.assign(value->evaluate(run, frame), run, frame);
  return Flow::kNext;
}

void SetBlockStmt::bind(Scope& scope, bool) {
  target.bind(scope);
  Scope inner(&scope);
  body.declare(inner, false);
  if (filter) declare_names(*filter, inner);
  if (filter) bind_names(*filter, inner, false);
  body.bind(inner, false);
  loads = inner.loads();
}

Flow SetBlockStmt::run(Run& run, Frame& frame) const {
  Capture capture(run);
  enter_scope(loads, run, frame);
  const Flow flow = body.run(run, frame);
  if (flow != Flow::kNext) return flow;
  Value text = Value::string(capture.take());
  if (filter) text = filter->apply_to_text(text, run, frame);
  target.assign(text, run, frame);
  return Flow::kNext;
}

void FilterBlockStmt::bind(Scope& scope, bool) {
  Scope inner(&scope);
  body.declare(inner, false);
  declare_names(*filter, inner);
  bind_names(*filter, inner, false);
  body.bind(inner, false);
  loads = inner.loads();
}

Flow FilterBlockStmt::run(Run& run, Frame& frame) const {
  std::string text;
  {
    Capture capture(run);
    enter_scope(loads, run, frame);
    const Flow flow = body.run(run, frame);
    if (flow != Flow::kNext) return flow;
    text = capture.take();
  }
  const Value filtered = filter->apply_to_text(Value::string(std::move(text)), run, frame);
  run.write(text_argument("a {% filter %} block", filtered));
  return Flow::kNext;
}

void WithStmt::declare(Scope& scope, bool) {
  for (const auto& [target, value] : values) declare_names(*value, scope);
}

void WithStmt::bind(Scope& scope, bool may_be_skipped) {
  Scope inner(&scope);
  for (auto& [target, value] : values) {
    bind_names(*value, scope, may_be_skipped);
    target.declare_parameters(inner);
  }
  body.declare(inner, false);
  for (auto& [target, value] : values) target.bind(inner);
  body.bind(inner, false);
  loads = inner.loads();
}

Flow WithStmt::run(Run& run, Frame& frame) const {
  enter_scope(loads, run, frame);
  for (const auto& [target, value] : values) target.assign(value->evaluate(run, frame), run, frame);
  return body.run(run, frame);
}

void GenerationStmt::bind(Scope& scope, bool) {
  loads = bind_inner(body, scope);
}

Flow GenerationStmt::run(Run& run, Frame& frame) const {
  std::string text;
  {
    Capture capture(run);
    enter_scope(loads, run, frame);
    body.run(run, frame);
    text = capture.take();
  }
  // Counted from what the template itself has written: within a macro too, as transformers does.
  const std::size_t begin = run.result.size();
  run.generation.push_back({begin, begin + text.size()});
  run.write(text);
  return Flow::kNext;
}

void ForStmt::bind(Scope& scope, bool may_be_skipped) {
  bind_names(*iterable, scope, may_be_skipped);
  Scope function(&scope, recursive);  // without names
  {
    Scope inner(&function);
    loop = inner.parameter("loop");
    target.declare_parameters(inner);
    body.declare(inner, false);
    target.bind(inner);
    body.bind(inner, false);
    body_loads = inner.loads();
  }
  if (condition) {
    Scope inner(&function);
    test_target = target;
    test_target.declare_parameters(inner);
    declare_names(*condition, inner);
    test_target.bind(inner);
    bind_names(*condition, inner, false);
    test_loads = inner.loads();
  }
  else_loads = bind_inner(otherwise, function);
  slot_count = function.slot_count();
}

Flow ForStmt::run(Run& run, Frame& frame) const {
  const Value items = iterable->evaluate(run, frame);
  if (!recursive) return rounds(run, frame, items, 0);
  run.write(run_recursive(run, frame.shared_from_this(), items, 0));
  return Flow::kNext;
}

std::string ForStmt::run_recursive(Run& run, const std::shared_ptr<Frame>& outer, const Value& items,
                                   int depth0) const {
  const DepthGuard guard(run.budget);
  run.budget.values(slot_count);
  const auto frame = std::make_shared<Frame>(slot_count, outer);
  Capture capture(run);
  rounds(run, *frame, items, depth0);
  return capture.take();
}

Flow ForStmt::rounds(Run& run, Frame& frame, const Value& items, int depth0) const {
  if (items.is_text()) run.budget.search(items.text().size(), 1);
  std::shared_ptr<Iterator> iterator = iterate(items);
  std::optional<std::size_t> length = length_of(items);
  if (condition) {
    iterator = std::make_shared<ConditionIterator>(*this, std::move(iterator), run, frame);
    length.reset();
  }
  const auto state = std::make_shared<Loop>(std::move(iterator), length, depth0);
  const FinishLoop finish{*state};
  hold(*state, items);
  if (recursive) {
    state->statement = this;
    state->frame = frame.outer;
  }
  bool finished_a_round = false;
  while (state->next()) {
    run.budget.step();
    run.line = line;
    target.assign(state->current(), run, frame);
    loop.in(frame) = Value::object(Kind::kLoop, state);
    enter_scope(body_loads, run, frame);
    const Flow flow = body.run(run, frame);
    if (flow == Flow::kBreak) break;
    // A round that `continue` or `break` ends does not count for `else`, in Jinja.
    if (flow == Flow::kNext) finished_a_round = true;
  }
  if (finished_a_round) return Flow::kNext;
  enter_scope(else_loads, run, frame);
  return otherwise.run(run, frame);
}

}  // namespace ithaca::jinja
