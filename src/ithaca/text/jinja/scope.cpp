#include "ithaca/text/jinja/scope.h"

#include "ithaca/base/error.h"

namespace ithaca::jinja {

void enter_scope(const std::vector<Load>& loads, Run& run, Frame& frame) {
  run.budget.steps(loads.size());
  for (const Load& load : loads) {
    Value& slot = frame.slots[load.index];
    switch (load.from) {
      case Load::From::kParameter:
        break;
      case Load::From::kNothing:
        slot = Value();
        break;
      case Load::From::kOuter:
        slot = load.outer.in(frame);
        break;
      case Load::From::kVariable: {
        const auto at = run.context.find(load.name);
        slot = at == run.context.end() ? Value() : at->second;
      }
    }
  }
}

Scope::Scope(Scope* parent, bool new_function)
    : parent_(parent),
      new_function_(new_function || !parent),
      slot_count_(new_function_ ? std::make_shared<std::size_t>(0) : parent->slot_count_) {}

const Scope::Entry* Scope::entry(const std::string& name, int& hops) const {
  hops = 0;
  for (const Scope* scope = this; scope; scope = scope->parent_) {
    const auto at = scope->entries_.find(name);
    if (at != scope->entries_.end()) return &at->second;
    if (scope->new_function_) ++hops;
  }
  return nullptr;
}

Scope::Entry& Scope::define(const std::string& name, Load::From from) {
  Entry& entry = entries_[name];
  entry.load = {from, (*slot_count_)++, name, {}};
  return entry;
}

void Scope::load(const std::string& name) {
  int hops = 0;
  if (!entry(name, hops)) define(name, Load::From::kVariable);
}

void Scope::store(const std::string& name, bool in_branch) {
  if (entries_.count(name) > 0) return;
  int hops = 0;
  if (const Entry* outer = entry(name, hops)) {
    const Slot slot{hops, outer->load.index};
    define(name, Load::From::kOuter).load.outer = slot;
  } else {
    // Where the branch is not taken the name is still the variable.
    define(name, in_branch ? Load::From::kVariable : Load::From::kNothing);
  }
}

Slot Scope::parameter(const std::string& name) {
  return {0, define(name, Load::From::kParameter).load.index};
}

Slot Scope::find(const std::string& name) const {
  int hops = 0;
  const Entry* found = entry(name, hops);
  ITHACA_CHECK(found, "the name ", name, " of a template was not declared");
  return {hops, found->load.index};
}

std::vector<Load> Scope::loads() const {
  std::vector<Load> loads;
  for (const auto& [name, entry] : entries_)
    if (entry.load.from != Load::From::kParameter) loads.push_back(entry.load);
  return loads;
}

}  // namespace ithaca::jinja
