#include <algorithm>
#include <array>
#include <charconv>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/format.h"
#include "ithaca/text/jinja/loop.h"
#include "ithaca/text/jinja/macro.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/statement.h"
#include "ithaca/text/jinja/text.h"

namespace ithaca::jinja {
namespace {

std::string shown_type(const Value& value) {
  return value.is(Kind::kNone) ? "None" : str(type_name(value), " object");
}

Value no_attribute(const Value& object, const std::string& whole_name) {
  const std::string name = whole_name.substr(0, byte_of(whole_name, 80));
  return Value::undefined(str('\'', shown_type(object), "' has no attribute '", name, '\''));
}

void refuse_numbers_own(const Value& object, const std::string& name) {
  static constexpr std::array<std::string_view, 12> kOwn{
      "real",     "imag",       "numerator", "denominator",      "conjugate",  "bit_length",
      "to_bytes", "from_bytes", "bit_count", "as_integer_ratio", "is_integer", "hex"};
  if (object.is_number() && std::find(kOwn.begin(), kOwn.end(), name) != kOwn.end())
    throw Failure(str("the attribute \"", name, "\" of a number is not supported"));
}

Value method_value(const Value& self, const Method& method) {
  auto object = std::make_shared<MethodObject>();
  hold(*object, self);
  object->self = self;
  object->method = &method;
  return Value::object(Kind::kMethod, std::move(object));
}

// What is there besides keys; nothing if there is nothing of this name.
std::optional<Value> own_attribute(Run& run, const Value& object, const std::string& name,
                                   const MethodsNamed& methods) {
  if (const Method* method = method_of(object, methods)) {
    if (method->call == &refuse_change)
      return Value::undefined(
          str("access to attribute '", name, "' of '", type_name(object), "' object is unsafe."));
    return method_value(object, *method);
  }
  refuse_numbers_own(object, name);
  if (object.is(Kind::kNamespace)) {
    const Value* value = object.as<Namespace>().attributes.find(std::string_view(name));
    return value ? std::optional<Value>(*value) : std::nullopt;
  }
  if (object.is(Kind::kLoop)) return object.as<Loop>().attribute(name, run.budget);
  if (object.is(Kind::kFunction))
    throw Failure(str("the attribute \"", name, "\" of the function \"", object.as<Function>().name,
                      "\" is not supported"));
  if (object.is(Kind::kMacro) && name == "name") return Value::string(object.as<Macro>().code->name);
  return std::nullopt;
}

}  // namespace

MethodsNamed methods_named(std::string_view name) {
  return {find_text_method(name), find_list_method(name), find_tuple_method(name), find_dict_method(name),
          find_loop_method(name)};
}

const Method* method_of(const Value& value, const MethodsNamed& methods) {
  switch (value.kind()) {
    case Kind::kString:
    case Kind::kMarkup:
      return methods.of_text;
    case Kind::kList:
      return methods.of_list;
    case Kind::kTuple:
    case Kind::kRange:
      return methods.of_tuple;
    case Kind::kDict:
      return methods.of_dict;
    case Kind::kLoop:
      return methods.of_loop;
    default:
      return nullptr;
  }
}

Value attribute_of(Run& run, const Value& object, const std::string& name, const MethodsNamed& methods) {
  require_defined(object);
  if (std::optional<Value> value = own_attribute(run, object, name, methods)) return *std::move(value);
  if (object.is(Kind::kDict))
    if (const Value* value = object.as<Dict>().find(std::string_view(name))) return *value;
  return no_attribute(object, name);
}

Value item_of(Run& run, const Value& object, const Value& index) {
  require_defined(object);
  if (object.is_text()) run.budget.search(object.text().size(), 1);
  if (index.is_text()) run.budget.search(index.text().size(), 1);
  if (std::optional<Value> value = element(object, index)) return *std::move(value);
  if (!index.is_text())
    return Value::undefined(str(shown_type(object), " has no element ", repr_of(index, run.budget)));
  const std::string& name = index.text();
  if (std::optional<Value> value = own_attribute(run, object, name, methods_named(name)))
    return *std::move(value);
  return no_attribute(object, name);
}

Value item_along(Run& run, const Value& object, const Value& path) {
  if (path.is(Kind::kNone)) return object;
  if (!path.is_text()) return item_of(run, object, path);
  Value value = object;
  for (const std::string_view part : split(path.text(), ".")) {
    std::int64_t number = 0;
    const bool digits =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    const bool is_number =
        digits && std::from_chars(part.data(), part.data() + part.size(), number).ec == std::errc();
    value = item_of(run, value, is_number ? Value::integer(number) : Value::string(std::string(part)));
  }
  return value;
}

Value call_value(Run& run, const Value& callee, const Arguments& arguments) {
  require_defined(callee);
  switch (callee.kind()) {
    case Kind::kFunction:
      return callee.as<Function>().call(run, callee.as<Function>(), arguments);
    case Kind::kMacro:
      return call_macro(run, callee.as<Macro>(), arguments);
    case Kind::kMethod: {
      const auto& bound = callee.as<MethodObject>();
      return call_method(run, bound.self, *bound.method, arguments);
    }
    case Kind::kLoop: {
      const auto& loop = callee.as<Loop>();
      if (!loop.statement)
        throw Failure("the loop must have the 'recursive' marker to be called recursively");
      const std::shared_ptr<Frame> frame = loop.frame.lock();
      if (!frame) throw Failure("a recursive loop is called after it has ended");
      const Values bound = bind_arguments("loop", arguments, {"iterable"}, 1);
      return Value::string(loop.statement->run_recursive(run, frame, bound[0], loop.depth0() + 1));
    }
    default:
      throw Failure(str("a value of type ", type_name(callee), " cannot be called"));
  }
}

Value call_method(Run& run, const Value& self, const Method& method, const Arguments& arguments) {
  if (!method.call)
    throw Failure(str("the method \"", method.name, "\" of a ", type_name(self), " is not supported"));
  if (self.is(Kind::kMarkup))
    throw Failure(str("the method \"", method.name, "\" of text marked as safe is not supported"));
  return method.call(run, self, arguments);
}

Value refuse_change(Run&, const Value& self, const Arguments&) {
  throw Failure(str("a template cannot change a ", type_name(self), ": make a new one"));
}

}  // namespace ithaca::jinja
