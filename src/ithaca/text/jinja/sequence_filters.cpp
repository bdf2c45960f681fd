#include <algorithm>
#include <array>
#include <functional>
#include <set>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/text.h"
#include "ithaca/text/unicode.h"

namespace ithaca::jinja {
namespace {

// Values as they are asked for.
struct Generator : Iterator {
  bool next(Value& value) override { return !ended && !(ended = !step(value)); }
  std::function<bool(Value&)> step;
  bool ended = false;
};

// `held`: what the step keeps alive.
Value generator(std::function<bool(Value&)> step, const Values& held) {
  auto object = std::make_shared<Generator>();
  for (const Value& value : held) hold(*object, value);
  object->step = std::move(step);
  return Value::object(Kind::kIterator, std::move(object));
}

Value empty_generator() {
  return generator([](Value&) { return false; }, {});
}

bool is_set(const Value& argument) {
  return given(argument) && !argument.is(Kind::kNone);
}

// Of keys for which "A" and "a" are the same.
Value without_case(Run& run, Value value) {
  if (!value.is_text()) return value;
  run.budget.text(value.text().size());
  return Value::string(lower(value.text()));
}

struct KeyOptions {
  Value attribute = Value::none();
  bool case_sensitive = false;
};

Value key_of(Run& run, const Value& item, const KeyOptions& options) {
  Value key = item_along(run, item, options.attribute);
  return options.case_sensitive ? key : without_case(run, std::move(key));
}

Value length(Run& run, const Value& input, const Arguments& arguments) {
  bind_arguments("the filter length", arguments, {});
  if (input.is_text()) run.budget.search(input.text().size(), 1);
  const std::optional<std::size_t> size = length_of(input);
  if (!size)
    throw Failure(str("a value of type ", type_name(input), " has no length; a list was meant? (| list)"));
  return Value::integer(static_cast<std::int64_t>(*size));
}

Value first(Run&, const Value& input, const Arguments& arguments) {
  bind_arguments("the filter first", arguments, {});
  Value value;
  return iterate(input)->next(value) ? value : Value::undefined("No first item, sequence was empty.");
}

Value last(Run& run, const Value& input, const Arguments& arguments) {
  bind_arguments("the filter last", arguments, {});
  if (!length_of(input))
    throw Failure(str("the last of a ", type_name(input), " cannot be reached; make it a list"));
  const Values items = list_of(input, run.budget);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value list(Run& run, const Value& input, const Arguments& arguments) {
  bind_arguments("the filter list", arguments, {});
  return input.is(Kind::kList) ? input : Value::list(list_of(input, run.budget));
}

Value items(Run&, const Value& input, const Arguments& arguments) {
  bind_arguments("the filter items", arguments, {});
  if (input.is(Kind::kUndefined)) return empty_generator();
  if (!input.is(Kind::kDict)) throw Failure("the filter items needs a mapping");
  return generator(
      [input, position = std::size_t{0}](Value& value) mutable {
        const auto& entries = input.as<Dict>().entries();
        if (position >= entries.size()) return false;
        value = Value::tuple({entries[position].first, entries[position].second});
        ++position;
        return true;
      },
      {input});
}

Value reverse(Run& run, const Value& input, const Arguments& arguments) {
  bind_arguments("the filter reverse", arguments, {});
  if (input.is_text()) return slice(input, Value::none(), Value::none(), Value::integer(-1), run.budget);
  const Value all = Value::list(list_of(input, run.budget));
  return generator(
      [all, left = all.items().size()](Value& value) mutable {
        if (left == 0) return false;
        value = all.items()[--left];
        return true;
      },
      {all});
}

Value unique(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter unique", arguments, {"case_sensitive", "attribute"});
  KeyOptions options;
  options.case_sensitive = given(bound[0]) && truthy(bound[0]);
  if (is_set(bound[1])) options.attribute = bound[1];
  auto seen = std::make_shared<std::set<Value, KeyLess>>();
  return generator(
      [&run, source = iterate(input), options, seen](Value& value) {
        while (source->next(value)) {
          run.budget.values(1);
          Value key = key_of(run, value, options);
          require_hashable(key);
          if (key.is_text()) run.budget.text(key.text().size());
          if (seen->insert(std::move(key)).second) return true;
        }
        return false;
      },
      {input});
}

Value batch(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter batch", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t size = integer_argument("the filter batch", bound[0], 0);
  if (size < 1) throw Failure("the filter batch needs a positive size");
  return generator(
      [&run, source = iterate(input), size, fill = bound[1]](Value& value) {
        Values row;
        for (Value item; static_cast<std::int64_t>(row.size()) < size && source->next(item);) {
          run.budget.values(1);
          row.push_back(std::move(item));
        }
        if (row.empty()) return false;
        while (is_set(fill) && static_cast<std::int64_t>(row.size()) < size) {
          run.budget.values(1);
          row.push_back(fill);
        }
        value = Value::list(std::move(row));
        return true;
      },
      {input, bound[1]});
}

Value slices(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter slice", arguments, {"slices", "fill_with"}, 1);
  const std::int64_t count = integer_argument("the filter slice", bound[0], 0);
  if (count == 0) throw Failure("the filter slice is asked for no slices");
  const Value all = Value::list(list_of(input, run.budget));
  return generator(
      [&run, all, count, fill = bound[1], number = std::int64_t{0},
       at = std::size_t{0}](Value& value) mutable {
        if (number >= count) return false;
        const auto total = static_cast<std::int64_t>(all.items().size());
        const bool longer = number++ < total % count;
        const auto size = static_cast<std::size_t>(total / count + (longer ? 1 : 0));
        run.budget.values(size);
        Values row(all.items().begin() + static_cast<std::ptrdiff_t>(at),
                   all.items().begin() + static_cast<std::ptrdiff_t>(at + size));
        at += size;
        if (is_set(fill) && !longer) row.push_back(fill);
        value = Value::list(std::move(row));
        return true;
      },
      {all, bound[1]});
}

Value sorted(Run& run, Values items, const std::vector<Values>& keys, bool descending) {
  std::vector<std::size_t> order(items.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto key_less = [&](const Values& a, const Values& b) {
    for (std::size_t i = 0; i < a.size(); ++i)
      if (!equal(a[i], b[i], run.budget)) return less(a[i], b[i], run.budget);
    return false;
  };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return descending ? key_less(keys[b], keys[a]) : key_less(keys[a], keys[b]);
  });
  Values result;
  result.reserve(items.size());
  for (const std::size_t i : order) result.push_back(std::move(items[i]));
  return Value::list(std::move(result));
}

Value sort(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound =
      bind_arguments("the filter sort", arguments, {"reverse", "case_sensitive", "attribute"});
  std::vector<KeyOptions> by(1);
  by[0].case_sensitive = given(bound[1]) && truthy(bound[1]);
  if (bound[2].is_text()) {
    const std::vector<std::string_view> names = split(bound[2].text(), ",");
    by.resize(names.size(), by[0]);
    for (std::size_t i = 0; i < names.size(); ++i) by[i].attribute = Value::string(std::string(names[i]));
  } else if (is_set(bound[2])) {
    by[0].attribute = bound[2];
  }
  Values items = list_of(input, run.budget);
  std::vector<Values> keys;
  for (const Value& item : items) {
    Values& key = keys.emplace_back();
    for (const KeyOptions& options : by) key.push_back(key_of(run, item, options));
  }
  return sorted(run, std::move(items), keys, given(bound[0]) && truthy(bound[0]));
}

Value dictsort(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter dictsort", arguments, {"case_sensitive", "by", "reverse"});
  require_defined(input);
  if (!input.is(Kind::kDict))
    throw Failure(str("the filter dictsort needs a dict, found a ", type_name(input)));
  const std::string by = given(bound[1]) ? text_argument("the filter dictsort", bound[1]) : "key";
  if (by != "key" && by != "value") throw Failure("the filter dictsort sorts by \"key\" or \"value\"");
  KeyOptions options;
  options.case_sensitive = given(bound[0]) && truthy(bound[0]);
  Values pairs;
  std::vector<Values> keys;
  for (const auto& [key, value] : input.as<Dict>().entries()) {
    run.budget.values(2);
    pairs.push_back(Value::tuple({key, value}));
    keys.push_back({key_of(run, by == "key" ? key : value, options)});
  }
  return sorted(run, std::move(pairs), keys, given(bound[2]) && truthy(bound[2]));
}

Value extreme(Run& run, const Value& input, const Arguments& arguments, std::string_view name, bool largest) {
  const Values bound = bind_arguments(name, arguments, {"case_sensitive", "attribute"});
  KeyOptions options;
  options.case_sensitive = given(bound[0]) && truthy(bound[0]);
  if (is_set(bound[1])) options.attribute = bound[1];
  const std::shared_ptr<Iterator> source = iterate(input);
  Value best;
  if (!source->next(best)) return Value::undefined("No aggregated item, sequence was empty.");
  Value best_key = key_of(run, best, options);
  for (Value item; source->next(item);) {
    Value key = key_of(run, item, options);
    if (!(largest ? less(best_key, key, run.budget) : less(key, best_key, run.budget))) continue;
    best = std::move(item);
    best_key = std::move(key);
  }
  return best;
}
Value smallest(Run& run, const Value& input, const Arguments& arguments) {
  return extreme(run, input, arguments, "the filter min", false);
}
Value largest(Run& run, const Value& input, const Arguments& arguments) {
  return extreme(run, input, arguments, "the filter max", true);
}

Value sum(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter sum", arguments, {"attribute", "start"});
  Value total = given(bound[1]) ? bound[1] : Value::integer(0);
  if (total.is_text()) throw Failure("the filter sum cannot add strings; use join");
  const std::shared_ptr<Iterator> source = iterate(input);
  for (Value item; source->next(item); run.budget.step())
    total = arithmetic(Arithmetic::kAdd, total, is_set(bound[0]) ? item_along(run, item, bound[0]) : item,
                       run.budget);
  return total;
}

Value default_value(Run&, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter default", arguments, {"default_value", "boolean"});
  const bool also_false = given(bound[1]) && truthy(bound[1]);
  if (!input.is(Kind::kUndefined) && !(also_false && !truthy(input))) return input;
  return given(bound[0]) ? bound[0] : Value::string("");
}

// item_along with a value for parts that are not there.
Value item_along_or(Run& run, const Value& item, const Value& path, const Value& fallback) {
  if (!is_set(fallback)) return item_along(run, item, path);
  if (!path.is_text()) {
    Value value = item_along(run, item, path);
    return value.is(Kind::kUndefined) ? fallback : value;
  }
  Value value = item;
  for (const std::string_view part : split(path.text(), ".")) {
    value = item_along(run, value, Value::string(std::string(part)));
    if (value.is(Kind::kUndefined)) value = fallback;
  }
  return value;
}

Value map_attribute(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter map", {{}, arguments.named}, {"attribute", "default"}, 1);
  return generator(
      [&run, source = iterate(input), path = bound[0], fallback = bound[1]](Value& value) {
        run.budget.step();
        Value item;
        if (!source->next(item)) return false;
        value = item_along_or(run, item, path, fallback);
        return true;
      },
      {input, bound[0], bound[1]});
}

Value map(Run& run, const Value& input, const Arguments& arguments) {
  if (!input.is(Kind::kIterator) && !truthy(input)) return empty_generator();
  if (arguments.positional.empty()) return map_attribute(run, input, arguments);
  const std::string& name = text_argument("the filter map", arguments.positional[0]);
  const Filter* filter = find_filter(name);
  if (!filter) throw Failure(str("the filter \"", name, "\" is not supported"));
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  Values held = rest.positional;
  for (const auto& [key, value] : rest.named) held.push_back(value);
  held.push_back(input);
  return generator(
      [&run, source = iterate(input), filter, rest](Value& value) {
        run.budget.step();
        Value item;
        if (!source->next(item)) return false;
        value = filter->apply(run, item, rest);
        return true;
      },
      held);
}

// select, reject and, with the name of an attribute before the test, selectattr and rejectattr.
Value chosen(Run& run, const Value& input, Arguments arguments, bool by_attribute, bool wanted) {
  if (!input.is(Kind::kIterator) && !truthy(input)) return empty_generator();
  Value path = Value::none();
  if (by_attribute) {
    if (arguments.positional.empty())
      throw Failure("selectattr and rejectattr need the name of an attribute");
    path = arguments.positional[0];
    arguments.positional.erase(arguments.positional.begin());
  }
  const Test* test = nullptr;
  if (!arguments.positional.empty()) {
    const std::string& name = text_argument("the name of a test", arguments.positional[0]);
    test = find_test(name);
    if (!test) throw Failure(str("the test \"", name, "\" is not supported"));
    arguments.positional.erase(arguments.positional.begin());
  }
  Values held = arguments.positional;
  for (const auto& [key, value] : arguments.named) held.push_back(value);
  held.push_back(input);
  return generator(
      [&run, source = iterate(input), path, test, arguments = std::move(arguments), wanted](Value& value) {
        while (source->next(value)) {
          run.budget.step();
          const Value tested = item_along(run, value, path);
          if ((test ? test->holds(run, tested, arguments) : truthy(tested)) == wanted) return true;
        }
        return false;
      },
      held);
}
Value select(Run& run, const Value& input, const Arguments& arguments) {
  return chosen(run, input, arguments, false, true);
}
Value reject(Run& run, const Value& input, const Arguments& arguments) {
  return chosen(run, input, arguments, false, false);
}
Value selectattr(Run& run, const Value& input, const Arguments& arguments) {
  return chosen(run, input, arguments, true, true);
}
Value rejectattr(Run& run, const Value& input, const Arguments& arguments) {
  return chosen(run, input, arguments, true, false);
}

constexpr std::array<Filter, 22> kSequenceFilters{{{"length", &length},
                                                   {"count", &length},
                                                   {"first", &first},
                                                   {"last", &last},
                                                   {"list", &list},
                                                   {"items", &items},
                                                   {"map", &map},
                                                   {"select", &select},
                                                   {"reject", &reject},
                                                   {"selectattr", &selectattr},
                                                   {"rejectattr", &rejectattr},
                                                   {"default", &default_value},
                                                   {"d", &default_value},
                                                   {"dictsort", &dictsort},
                                                   {"sort", &sort},
                                                   {"unique", &unique},
                                                   {"reverse", &reverse},
                                                   {"min", &smallest},
                                                   {"max", &largest},
                                                   {"sum", &sum},
                                                   {"batch", &batch},
                                                   {"slice", &slices}}};

}  // namespace

const Filter* find_sequence_filter(std::string_view name) {
  const auto at = std::find_if(kSequenceFilters.begin(), kSequenceFilters.end(),
                               [&](const Filter& row) { return row.name == name; });
  return at == kSequenceFilters.end() ? nullptr : &*at;
}

}  // namespace ithaca::jinja
