// What templates may call: filters, tests, methods of values, functions. Each is a row of a table; what is in
// no table is refused by name.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "ithaca/text/jinja/run.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

struct Filter {
  std::string_view name;
  Value (*apply)(Run& run, const Value& input, const Arguments& arguments);
};
const Filter* find_filter(std::string_view name);  // null if there is none
// The parts of the table.
const Filter* find_text_filter(std::string_view name);
const Filter* find_sequence_filter(std::string_view name);
const Filter* find_number_filter(std::string_view name);

struct Test {
  std::string_view name;
  bool (*holds)(Run& run, const Value& input, const Arguments& arguments);
};
const Test* find_test(std::string_view name);

struct Method {
  std::string_view name;
  Value (*call)(Run& run, const Value& self, const Arguments& arguments);  // null: Python has it, we do not
};
// The methods of one name, of each type that has one.
struct MethodsNamed {
  const Method* of_text = nullptr;
  const Method* of_list = nullptr;
  const Method* of_tuple = nullptr;
  const Method* of_dict = nullptr;
  const Method* of_loop = nullptr;
};
MethodsNamed methods_named(std::string_view name);
const Method* find_text_method(std::string_view name);
const Method* find_list_method(std::string_view name);
const Method* find_tuple_method(std::string_view name);
const Method* find_dict_method(std::string_view name);
const Method* find_loop_method(std::string_view name);
const Method* method_of(const Value& value, const MethodsNamed& methods);
Value call_method(Run& run, const Value& self, const Method& method, const Arguments& arguments);
// The `call` of methods that change a list or dict: to a template they are undefined.
[[noreturn]] Value refuse_change(Run& run, const Value& self, const Arguments& arguments);

struct MethodObject : Object {
  Value self;
  const Method* method = nullptr;
};

struct Function : Object {
  std::string_view name;
  Value (*call)(Run& run, const Function& self, const Arguments& arguments) = nullptr;
};
// The functions every template sees, by name; and those of Jinja that are not here, which fail when called.
void add_functions(Context& context);

// str.replace within the bounds; all occurrences: `limit` below 0.
Value replaced(Run& run, std::string_view text, std::string_view old_part, std::string_view new_part,
               std::int64_t limit);

// a.name and a['name'] as the sandbox of transformers gives them: the methods of the tables and keys,
// attributes of namespaces and of `loop`; nothing else of Python's objects.
Value attribute_of(Run& run, const Value& object, const std::string& name, const MethodsNamed& methods);
Value item_of(Run& run, const Value& object, const Value& index);
// item_of along a.b.0.c
Value item_along(Run& run, const Value& object, const Value& path);

Value call_value(Run& run, const Value& callee, const Arguments& arguments);

}  // namespace ithaca::jinja
