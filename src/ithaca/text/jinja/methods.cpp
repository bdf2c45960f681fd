#include <algorithm>
#include <array>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/loop.h"
#include "ithaca/text/jinja/operators.h"

namespace ithaca::jinja {
namespace {

Value view_of(const Value& self, ViewPart part) {
  auto view = std::make_shared<View>();
  hold(*view, self);
  view->dict = self;
  view->part = part;
  return Value::object(Kind::kView, std::move(view));
}

Value dict_items(Run&, const Value& self, const Arguments& arguments) {
  bind_arguments("items()", arguments, {});
  return view_of(self, ViewPart::kItems);
}
Value dict_keys(Run&, const Value& self, const Arguments& arguments) {
  bind_arguments("keys()", arguments, {});
  return view_of(self, ViewPart::kKeys);
}
Value dict_values(Run&, const Value& self, const Arguments& arguments) {
  bind_arguments("values()", arguments, {});
  return view_of(self, ViewPart::kValues);
}

Value dict_get(Run& run, const Value& self, const Arguments& arguments) {
  if (!arguments.named.empty()) throw Failure("get() takes no keyword arguments");
  const Values bound = bind_arguments("get()", arguments, {"key", "default"}, 0);
  if (arguments.positional.empty()) throw Failure("get() needs a key");
  if (bound[0].is_text()) run.budget.search(bound[0].text().size(), 1);
  const Value* value = self.as<Dict>().find(bound[0]);
  return value ? *value : arguments.positional.size() > 1 ? bound[1] : Value::none();
}

Value dict_copy(Run&, const Value& self, const Arguments& arguments) {
  bind_arguments("copy()", arguments, {});
  return self;  // it never changes
}

Value list_copy(Run&, const Value& self, const Arguments& arguments) {
  bind_arguments("copy()", arguments, {});
  return self;
}

Value sequence_count(Run& run, const Value& self, const Arguments& arguments) {
  const Values bound = bind_arguments("count()", arguments, {"value"}, 1);
  std::int64_t count = 0;
  for (const Value& item : list_of(self, run.budget)) count += equal(item, bound[0], run.budget) ? 1 : 0;
  return Value::integer(count);
}

Value sequence_index(Run& run, const Value& self, const Arguments& arguments) {
  const Values bound = bind_arguments("index()", arguments, {"value"}, 1);
  const Values items = list_of(self, run.budget);
  for (std::size_t i = 0; i < items.size(); ++i)
    if (equal(items[i], bound[0], run.budget)) return Value::integer(static_cast<std::int64_t>(i));
  throw Failure(str("index(): the ", type_name(self), " does not hold the value"));
}

Value loop_cycle(Run&, const Value& self, const Arguments& arguments) {
  if (!arguments.named.empty()) throw Failure("loop.cycle takes no keyword arguments");
  return self.as<Loop>().cycle(arguments.positional);
}

Value loop_changed(Run& run, const Value& self, const Arguments& arguments) {
  if (!arguments.named.empty()) throw Failure("loop.changed takes no keyword arguments");
  return self.as<Loop>().changed(Value::tuple(arguments.positional), run.budget);
}

constexpr std::array<Method, 11> kDictMethods{{{"get", &dict_get},
                                               {"items", &dict_items},
                                               {"keys", &dict_keys},
                                               {"values", &dict_values},
                                               {"copy", &dict_copy},
                                               {"fromkeys", nullptr},
                                               {"clear", &refuse_change},
                                               {"pop", &refuse_change},
                                               {"popitem", &refuse_change},
                                               {"setdefault", &refuse_change},
                                               {"update", &refuse_change}}};

constexpr std::array<Method, 11> kListMethods{{{"copy", &list_copy},
                                               {"count", &sequence_count},
                                               {"index", &sequence_index},
                                               {"append", &refuse_change},
                                               {"clear", &refuse_change},
                                               {"extend", &refuse_change},
                                               {"insert", &refuse_change},
                                               {"pop", &refuse_change},
                                               {"remove", &refuse_change},
                                               {"reverse", &refuse_change},
                                               {"sort", &refuse_change}}};

constexpr std::array<Method, 2> kTupleMethods{{{"count", &sequence_count}, {"index", &sequence_index}}};
constexpr std::array<Method, 2> kLoopMethods{{{"cycle", &loop_cycle}, {"changed", &loop_changed}}};

template <std::size_t n>
const Method* find_in(const std::array<Method, n>& table, std::string_view name) {
  const auto at =
      std::find_if(table.begin(), table.end(), [&](const Method& row) { return row.name == name; });
  return at == table.end() ? nullptr : &*at;
}

}  // namespace

const Method* find_list_method(std::string_view name) {
  return find_in(kListMethods, name);
}
const Method* find_tuple_method(std::string_view name) {
  return find_in(kTupleMethods, name);
}
const Method* find_dict_method(std::string_view name) {
  return find_in(kDictMethods, name);
}
const Method* find_loop_method(std::string_view name) {
  return find_in(kLoopMethods, name);
}

}  // namespace ithaca::jinja
