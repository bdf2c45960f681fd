// Values as text: Python's str() and repr(), json.dumps, and the % operator of str.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ithaca/text/jinja/budget.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

std::string float_repr(double value);  // the shortest that reads back, as Python writes it

void append_str(std::string& out, const Value& value, Budget& budget);
std::string str_of(const Value& value, Budget& budget);
void append_repr(std::string& out, const Value& value, Budget& budget);
std::string repr_of(const Value& value, Budget& budget);

struct JsonStyle {
  bool ensure_ascii = false, sort_keys = false;
  std::optional<std::string> indent;  // one level's; none: all on one line
  std::string item_separator = ", ", key_separator = ": ";
};
void append_json(std::string& out, const Value& value, const JsonStyle& style, Budget& budget);

// `format` % argument: a tuple's values one after another, a dict by %(name)s too.
std::string percent_format(std::string_view format, const Value& argument, Budget& budget);
// str.format with plain fields: {}, {0}, {name}, each with !s or !r; another field is refused.
std::string brace_format(std::string_view format, const Values& arguments,
                         const std::vector<std::pair<std::string, Value>>& named, Budget& budget);

}  // namespace ithaca::jinja
