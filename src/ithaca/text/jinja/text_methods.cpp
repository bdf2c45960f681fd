#include <algorithm>
#include <array>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/format.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/text.h"

namespace ithaca::jinja {
namespace {

// Of an argument that may be absent or none.
std::optional<std::string_view> optional_text(std::string_view what, const Value& argument) {
  if (!given(argument) || argument.is(Kind::kNone)) return std::nullopt;
  return text_argument(what, argument);
}

Value stripped(Run& run, const Value& self, const Arguments& arguments, std::string_view what, Side side) {
  const Values bound = bind_arguments(what, arguments, {"chars"});
  run.budget.text(self.text().size());
  return Value::string(std::string(strip(self.text(), side, optional_text(what, bound[0]))));
}
Value text_strip(Run& run, const Value& self, const Arguments& arguments) {
  return stripped(run, self, arguments, "strip()", Side::kBoth);
}
Value text_lstrip(Run& run, const Value& self, const Arguments& arguments) {
  return stripped(run, self, arguments, "lstrip()", Side::kLeft);
}
Value text_rstrip(Run& run, const Value& self, const Arguments& arguments) {
  return stripped(run, self, arguments, "rstrip()", Side::kRight);
}

Value strings(Run& run, const std::vector<std::string_view>& parts) {
  run.budget.values(parts.size());
  Values items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(Value::string(std::string(part)));
  return Value::list(std::move(items));
}

Value splitted(Run& run, const Value& self, const Arguments& arguments, std::string_view what,
               bool from_right) {
  const Values bound = bind_arguments(what, arguments, {"sep", "maxsplit"});
  const std::optional<std::string_view> separator = optional_text(what, bound[0]);
  if (separator && separator->empty()) throw Failure(str(what, ": empty separator"));
  const std::int64_t limit = integer_argument(what, bound[1], -1);
  run.budget.search(self.text().size(), separator ? separator->size() : 1);
  return strings(
      run, from_right ? split_right(self.text(), separator, limit) : split(self.text(), separator, limit));
}
Value text_split(Run& run, const Value& self, const Arguments& arguments) {
  return splitted(run, self, arguments, "split()", false);
}
Value text_rsplit(Run& run, const Value& self, const Arguments& arguments) {
  return splitted(run, self, arguments, "rsplit()", true);
}

Value text_splitlines(Run& run, const Value& self, const Arguments& arguments) {
  const Values bound = bind_arguments("splitlines()", arguments, {"keepends"});
  run.budget.text(self.text().size());
  return strings(run, split_lines(self.text(), given(bound[0]) && truthy(bound[0])));
}

// Does the text, from code point `start` to `stop`, begin or end with one of the given strings?
Value has_end(Run& run, const Value& self, const Arguments& arguments, std::string_view what, bool at_start) {
  const Values bound = bind_arguments(what, arguments, {"prefix", "start", "end"}, 1);
  const auto position = [](const Value& value) { return given(value) ? value : Value::none(); };
  const Value part = given(bound[1]) || given(bound[2])
                         ? slice(self, position(bound[1]), position(bound[2]), Value::none(), run.budget)
                         : self;
  const Values wanted = bound[0].is(Kind::kTuple) ? bound[0].items() : Values{bound[0]};
  bool found = false;
  for (const Value& end : wanted) {
    const std::string& text = text_argument(what, end);
    run.budget.text(text.size());
    found |= at_start ? part.text().starts_with(text) : part.text().ends_with(text);
  }
  return Value::boolean(found);
}
Value text_startswith(Run& run, const Value& self, const Arguments& arguments) {
  return has_end(run, self, arguments, "startswith()", true);
}
Value text_endswith(Run& run, const Value& self, const Arguments& arguments) {
  return has_end(run, self, arguments, "endswith()", false);
}

template <std::string (*change)(std::string_view)>
Value changed(Run& run, const Value& self, const Arguments& arguments) {
  bind_arguments("the method", arguments, {});
  run.budget.text(4 * self.text().size());
  return Value::string(change(self.text()));
}

Value text_replace(Run& run, const Value& self, const Arguments& arguments) {
  const Values bound = bind_arguments("replace()", arguments, {"old", "new", "count"}, 2);
  return replaced(run, self.text(), text_argument("replace()", bound[0]),
                  text_argument("replace()", bound[1]), integer_argument("replace()", bound[2], -1));
}

Value text_count(Run& run, const Value& self, const Arguments& arguments) {
  const std::string& part = text_argument("count()", bind_arguments("count()", arguments, {"sub"}, 1)[0]);
  run.budget.search(self.text().size(), part.size());
  return Value::integer(static_cast<std::int64_t>(count_of(self.text(), part)));
}

std::optional<std::size_t> found_at(Run& run, const Value& self, const Arguments& arguments,
                                    std::string_view what, bool from_right) {
  const Values bound = bind_arguments(what, arguments, {"sub"}, 1);
  const std::string& part = text_argument(what, bound[0]);
  run.budget.search(self.text().size(), part.size());
  const std::string_view text = self.text();
  const std::size_t byte = from_right ? text.rfind(part) : text.find(part);
  if (byte == std::string_view::npos) return std::nullopt;
  return code_points(text.substr(0, byte));
}
Value position_or(const std::optional<std::size_t>& position, bool must_be_there) {
  if (!position && must_be_there) throw Failure("index(): the string does not hold the part");
  return Value::integer(position ? static_cast<std::int64_t>(*position) : -1);
}
Value text_find(Run& run, const Value& self, const Arguments& arguments) {
  return position_or(found_at(run, self, arguments, "find()", false), false);
}
Value text_rfind(Run& run, const Value& self, const Arguments& arguments) {
  return position_or(found_at(run, self, arguments, "rfind()", true), false);
}
Value text_index(Run& run, const Value& self, const Arguments& arguments) {
  return position_or(found_at(run, self, arguments, "index()", false), true);
}
Value text_rindex(Run& run, const Value& self, const Arguments& arguments) {
  return position_or(found_at(run, self, arguments, "rindex()", true), true);
}

Value text_join(Run& run, const Value& self, const Arguments& arguments) {
  const Values bound = bind_arguments("join()", arguments, {"iterable"}, 1);
  std::string text;
  bool first = true;
  for (const Value& item : list_of(bound[0], run.budget)) {
    const std::string& part = text_argument("join()", item);
    run.budget.text(text.size() / 64 + part.size() + self.text().size());
    run.budget.fits(text.size() + part.size() + self.text().size());
    if (!first) text += self.text();
    text += part;
    first = false;
  }
  return Value::string(std::move(text));
}

Value parted(Run& run, const Value& self, const Arguments& arguments, std::string_view what,
             bool from_right) {
  const std::string& separator = text_argument(what, bind_arguments(what, arguments, {"sep"}, 1)[0]);
  if (separator.empty()) throw Failure(str(what, ": empty separator"));
  run.budget.search(self.text().size(), separator.size());
  const std::string& text = self.text();
  const std::size_t at = from_right ? text.rfind(separator) : text.find(separator);
  Values parts;
  if (at == std::string::npos)
    parts = from_right ? Values{Value::string(""), Value::string(""), self}
                       : Values{self, Value::string(""), Value::string("")};
  else
    parts = {Value::string(text.substr(0, at)), Value::string(separator),
             Value::string(text.substr(at + separator.size()))};
  return Value::tuple(std::move(parts));
}
Value text_partition(Run& run, const Value& self, const Arguments& arguments) {
  return parted(run, self, arguments, "partition()", false);
}
Value text_rpartition(Run& run, const Value& self, const Arguments& arguments) {
  return parted(run, self, arguments, "rpartition()", true);
}

Value text_removeprefix(Run& run, const Value& self, const Arguments& arguments) {
  const std::string& part =
      text_argument("removeprefix()", bind_arguments("removeprefix()", arguments, {"prefix"}, 1)[0]);
  run.budget.text(self.text().size());
  return self.text().starts_with(part) ? Value::string(self.text().substr(part.size())) : self;
}
Value text_removesuffix(Run& run, const Value& self, const Arguments& arguments) {
  const std::string& part =
      text_argument("removesuffix()", bind_arguments("removesuffix()", arguments, {"suffix"}, 1)[0]);
  run.budget.text(self.text().size());
  return self.text().ends_with(part) ? Value::string(self.text().substr(0, self.text().size() - part.size()))
                                     : self;
}

// `left`: how much of the missing width goes to the left.
Value padded(Run& run, const Value& self, const Arguments& arguments, std::string_view what,
             std::size_t (*left)(std::size_t missing, std::size_t width)) {
  const Values bound = bind_arguments(what, arguments, {"width", "fillchar"}, 1);
  const std::string fill = given(bound[1]) ? text_argument(what, bound[1]) : " ";
  if (code_points(fill) != 1) throw Failure(str(what, ": the fill must be one character"));
  const std::int64_t width = integer_argument(what, bound[0], 0);
  run.budget.search(self.text().size(), 1);
  const auto length = static_cast<std::int64_t>(code_points(self.text()));
  if (width <= length) return self;
  run.budget.text(self.text().size() + static_cast<std::size_t>(width));
  const auto missing = static_cast<std::size_t>(width - length);
  run.budget.text(fill.size() * missing);
  std::string out;
  const std::size_t before = left(missing, static_cast<std::size_t>(width));
  for (std::size_t i = 0; i < before; ++i) out += fill;
  out += self.text();
  for (std::size_t i = before; i < missing; ++i) out += fill;
  return Value::string(std::move(out));
}
Value text_ljust(Run& run, const Value& self, const Arguments& arguments) {
  return padded(run, self, arguments, "ljust()", [](std::size_t, std::size_t) { return std::size_t{0}; });
}
Value text_rjust(Run& run, const Value& self, const Arguments& arguments) {
  return padded(run, self, arguments, "rjust()", [](std::size_t missing, std::size_t) { return missing; });
}
Value text_center(Run& run, const Value& self, const Arguments& arguments) {
  return padded(run, self, arguments, "center()",
                [](std::size_t missing, std::size_t width) { return missing / 2 + (missing & width & 1u); });
}

template <bool (*holds)(std::string_view)>
Value is_text(Run& run, const Value& self, const Arguments& arguments) {
  bind_arguments("the method", arguments, {});
  run.budget.text(self.text().size());
  return Value::boolean(holds(self.text()));
}
template <bool (*member)(char32_t)>
bool all_are(std::string_view text) {
  return all_of_class(text, member);
}
bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

Value text_format(Run& run, const Value& self, const Arguments& arguments) {
  return Value::string(brace_format(self.text(), arguments.positional, arguments.named, run.budget));
}

constexpr std::array<Method, 47> kTextMethods{{{"strip", &text_strip},
                                               {"lstrip", &text_lstrip},
                                               {"rstrip", &text_rstrip},
                                               {"split", &text_split},
                                               {"rsplit", &text_rsplit},
                                               {"splitlines", &text_splitlines},
                                               {"startswith", &text_startswith},
                                               {"endswith", &text_endswith},
                                               {"upper", &changed<&upper>},
                                               {"lower", &changed<&lower>},
                                               {"title", &changed<&title>},
                                               {"capitalize", &changed<&capitalize>},
                                               {"replace", &text_replace},
                                               {"count", &text_count},
                                               {"find", &text_find},
                                               {"rfind", &text_rfind},
                                               {"index", &text_index},
                                               {"rindex", &text_rindex},
                                               {"join", &text_join},
                                               {"partition", &text_partition},
                                               {"rpartition", &text_rpartition},
                                               {"removeprefix", &text_removeprefix},
                                               {"removesuffix", &text_removesuffix},
                                               {"ljust", &text_ljust},
                                               {"rjust", &text_rjust},
                                               {"center", &text_center},
                                               {"format", &text_format},
                                               {"isalpha", &is_text<&all_are<&is_alpha>>},
                                               {"isalnum", &is_text<&all_are<&is_alnum>>},
                                               {"isdecimal", &is_text<&all_are<&is_decimal>>},
                                               {"isdigit", &is_text<&all_are<&is_digit>>},
                                               {"isspace", &is_text<&all_are<&is_space>>},
                                               {"isupper", &is_text<&is_upper>},
                                               {"islower", &is_text<&is_lower>},
                                               {"isascii", &is_text<&is_ascii>},
                                               {"casefold", nullptr},
                                               {"encode", nullptr},
                                               {"expandtabs", nullptr},
                                               {"format_map", nullptr},
                                               {"isidentifier", nullptr},
                                               {"isnumeric", nullptr},
                                               {"isprintable", nullptr},
                                               {"istitle", nullptr},
                                               {"maketrans", nullptr},
                                               {"swapcase", nullptr},
                                               {"translate", nullptr},
                                               {"zfill", nullptr}}};

}  // namespace

Value replaced(Run& run, std::string_view text, std::string_view old_part, std::string_view new_part,
               std::int64_t limit) {
  run.budget.search(text.size(), old_part.size());
  const std::size_t found = count_of(text, old_part);
  const std::size_t times = limit < 0 ? found : std::min(found, static_cast<std::size_t>(limit));
  if (!new_part.empty() && times > run.budget.limits().text_bytes / new_part.size())
    run.budget.fits(run.budget.limits().text_bytes + 1);
  run.budget.text(text.size() + times * new_part.size());
  return Value::string(replace(text, old_part, new_part, limit));
}

const Method* find_text_method(std::string_view name) {
  const auto at = std::find_if(kTextMethods.begin(), kTextMethods.end(),
                               [&](const Method& row) { return row.name == name; });
  return at == kTextMethods.end() || name.empty() ? nullptr : &*at;
}

}  // namespace ithaca::jinja
