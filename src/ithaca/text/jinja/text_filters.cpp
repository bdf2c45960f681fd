#include <algorithm>
#include <array>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/format.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/text.h"
#include "ithaca/text/unicode.h"

namespace ithaca::jinja {
namespace {

void no_arguments(std::string_view name, const Arguments& arguments) {
  bind_arguments(str("the filter ", name), arguments, {});
}

// The text of any value; text marked as safe stays so.
Value like(const Value& input, std::string text) {
  return input.is(Kind::kMarkup) ? Value::markup(std::move(text)) : Value::string(std::move(text));
}

template <std::string (*change)(std::string_view)>
Value changed(Run& run, const Value& input, const Arguments& arguments) {
  no_arguments("of case", arguments);
  const std::string text = str_of(input, run.budget);
  run.budget.text(4 * text.size());
  return like(input, change(text));
}

// The filter's own rule: a word begins behind white space, a hyphen or an opening bracket.
std::string title_words(std::string_view text) {
  std::string out;
  std::string_view rest = text;
  const auto is_break = [](std::string_view from, std::size_t& at) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(from, at);
    if (is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<') return true;
    at = begin;
    return false;
  };
  while (!rest.empty()) {
    std::size_t end = 0;
    while (end < rest.size() && is_break(rest, end)) continue;
    out += rest.substr(0, end);  // breaks have no case
    rest.remove_prefix(end);
    for (end = 0; end < rest.size();) {
      std::size_t at = end;
      if (is_break(rest, at)) break;
      next_code_point(rest, end);
    }
    if (end == 0) continue;
    const std::size_t first = byte_of(rest, 1);
    out += upper(rest.substr(0, first)) + lower(rest.substr(first, end - first));
    rest.remove_prefix(end);
  }
  return out;
}

Value trim(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter trim", arguments, {"chars"});
  const std::string text = str_of(input, run.budget);
  std::optional<std::string_view> chars;
  if (given(bound[0]) && !bound[0].is(Kind::kNone)) chars = text_argument("the filter trim", bound[0]);
  return like(input, std::string(strip(text, Side::kBoth, chars)));
}

Value string(Run& run, const Value& input, const Arguments& arguments) {
  no_arguments("string", arguments);
  return input.is_text() ? input : Value::string(str_of(input, run.budget));
}

Value safe(Run& run, const Value& input, const Arguments& arguments) {
  no_arguments("safe", arguments);
  return Value::markup(str_of(input, run.budget));
}

Value escape(Run& run, const Value& input, const Arguments& arguments) {
  no_arguments("escape", arguments);
  if (input.is(Kind::kMarkup)) return input;
  const std::string text = str_of(input, run.budget);
  run.budget.text(5 * text.size());
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return Value::markup(std::move(out));
}

Value replace_filter(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter replace", arguments, {"old", "new", "count"}, 2);
  const std::int64_t limit =
      bound[2].is(Kind::kNone) ? -1 : integer_argument("the filter replace", bound[2], -1);
  return replaced(run, str_of(input, run.budget), str_of(bound[0], run.budget), str_of(bound[1], run.budget),
                  limit);
}

Value indent(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter indent", arguments, {"width", "first", "blank"});
  require_defined(input);
  const std::string& text = text_argument("the filter indent", input);
  std::string margin;
  if (bound[0].is_text()) {
    margin = bound[0].text();
  } else {
    const std::int64_t width = std::max<std::int64_t>(integer_argument("the filter indent", bound[0], 4), 0);
    run.budget.text(static_cast<std::size_t>(width));
    margin.assign(static_cast<std::size_t>(width), ' ');
  }
  const bool first = given(bound[1]) && truthy(bound[1]), blank = given(bound[2]) && truthy(bound[2]);
  run.budget.text(text.size());
  const std::string whole = text + "\n";
  std::string out = first ? margin : "";
  bool at_start = true;
  for (const std::string_view line : split_lines(whole)) {
    run.budget.text(margin.size() + line.size());
    run.budget.fits(out.size() + margin.size() + line.size());
    if (!at_start) out += '\n';
    if (!at_start && (blank || !line.empty())) out += margin;
    out += line;
    at_start = false;
  }
  return like(input, std::move(out));
}

Value format(Run& run, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty())
    throw Failure("the filter format takes arguments with names or without, not both");
  const std::string text = str_of(input, run.budget);
  if (arguments.named.empty())
    return Value::string(percent_format(text, Value::tuple(arguments.positional), run.budget));
  std::vector<Dict::Entry> entries;
  for (const auto& [name, value] : arguments.named) entries.emplace_back(Value::string(name), value);
  return Value::string(percent_format(text, Value::dict(std::move(entries)), run.budget));
}

Value join(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter join", arguments, {"d", "attribute"});
  const std::string between = given(bound[0]) ? str_of(bound[0], run.budget) : "";
  const bool by_attribute = given(bound[1]) && !bound[1].is(Kind::kNone);
  std::string out;
  bool first = true;
  const std::shared_ptr<Iterator> items = iterate(input);
  for (Value item; items->next(item);) {
    run.budget.step();
    run.budget.text(between.size());
    run.budget.fits(out.size() + between.size());
    if (!first) out += between;
    append_str(out, by_attribute ? item_along(run, item, bound[1]) : item, run.budget);
    first = false;
  }
  return Value::string(std::move(out));
}

JsonStyle json_style(const Values& bound, Budget& budget) {
  JsonStyle style;
  style.ensure_ascii = given(bound[0]) && truthy(bound[0]);
  style.sort_keys = given(bound[3]) && truthy(bound[3]);
  if (given(bound[1]) && !bound[1].is(Kind::kNone)) {
    if (bound[1].is_text()) {
      style.indent = bound[1].text();
    } else {
      const std::int64_t width =
          std::max<std::int64_t>(integer_argument("the filter tojson", bound[1], 0), 0);
      budget.text(static_cast<std::size_t>(width));
      style.indent = std::string(static_cast<std::size_t>(width), ' ');
    }
    style.item_separator = ",";
  }
  if (given(bound[2]) && !bound[2].is(Kind::kNone)) {
    const Values pair = list_of(bound[2], budget);
    if (pair.size() != 2) throw Failure("the filter tojson needs two separators");
    style.item_separator = text_argument("the filter tojson", pair[0]);
    style.key_separator = text_argument("the filter tojson", pair[1]);
  }
  return style;
}

Value tojson(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound =
      bind_arguments("the filter tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  std::string out;
  append_json(out, input, json_style(bound, run.budget), run.budget);
  return Value::string(std::move(out));
}

constexpr std::array<Filter, 14> kTextFilters{{{"trim", &trim},
                                               {"upper", &changed<&upper>},
                                               {"lower", &changed<&lower>},
                                               {"title", &changed<&title_words>},
                                               {"capitalize", &changed<&capitalize>},
                                               {"string", &string},
                                               {"safe", &safe},
                                               {"escape", &escape},
                                               {"e", &escape},
                                               {"replace", &replace_filter},
                                               {"indent", &indent},
                                               {"format", &format},
                                               {"join", &join},
                                               {"tojson", &tojson}}};

}  // namespace

const Filter* find_text_filter(std::string_view name) {
  const auto at = std::find_if(kTextFilters.begin(), kTextFilters.end(),
                               [&](const Filter& row) { return row.name == name; });
  return at == kTextFilters.end() ? nullptr : &*at;
}

const Filter* find_filter(std::string_view name) {
  if (const Filter* filter = find_text_filter(name)) return filter;
  if (const Filter* filter = find_sequence_filter(name)) return filter;
  return find_number_filter(name);
}

}  // namespace ithaca::jinja
