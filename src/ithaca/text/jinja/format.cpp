#include "ithaca/text/jinja/format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/run.h"
#include "ithaca/text/jinja/text.h"

namespace ithaca::jinja {
namespace {

void append_sequence(std::string& out, const Values& items, std::string_view open, std::string_view close,
                     Budget& budget) {
  out += open;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(out, items[i], budget);
  }
  out += close;
}

void append_entries(std::string& out, const std::vector<Dict::Entry>& entries, Budget& budget) {
  out += '{';
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(out, entries[i].first, budget);
    out += ": ";
    append_repr(out, entries[i].second, budget);
  }
  out += '}';
}

void append_range(std::string& out, const Range& range) {
  out += str("range(", range.start, ", ", range.stop);
  if (range.step != 1) out += str(", ", range.step);
  out += ')';
}

void append_view(std::string& out, const Value& view, Budget& budget) {
  out += type_name(view);
  append_sequence(out, list_of(view, budget), "([", "])", budget);
}

void append_namespace(std::string& out, const Value& value, Budget& budget) {
  out += "<Namespace ";
  append_entries(out, value.as<Namespace>().attributes.entries(), budget);
  out += '>';
}

class JsonWriter {
 public:
  JsonWriter(std::string& out, const JsonStyle& style, Budget& budget)
      : out_(out), style_(style), budget_(budget) {}

  void write(const Value& value) {
    budget_.step();
    budget_.fits(out_.size());
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        break;
      case Kind::kBool:
        out_ += value.as_integer() != 0 ? "true" : "false";
        break;
      case Kind::kInt:
        out_ += std::to_string(value.as_integer());
        break;
      case Kind::kFloat:
        number(value.as_real());
        break;
      case Kind::kString:
      case Kind::kMarkup:
        text(value.text());
        break;
      case Kind::kList:
      case Kind::kTuple:
        array(value.items());
        break;
      case Kind::kDict:
        object(value.as<Dict>());
        break;
      default:
        throw Failure(str("tojson: a value of type ", type_name(value), " cannot be written as JSON"));
    }
  }

 private:
  void text(std::string_view content) {
    budget_.text(content.size());
    append_json(out_, content, style_.ensure_ascii);
  }

  void number(double value) {
    out_ += std::isnan(value)   ? "NaN"
            : std::isinf(value) ? (value > 0 ? "Infinity" : "-Infinity")
                                : float_repr(value);
  }

  void line(int level) {
    if (!style_.indent) return;
    budget_.text(style_.indent->size() * static_cast<std::size_t>(level));
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
  }

  void separate(bool first) {
    if (!first) out_ += style_.item_separator;
    line(level_);
  }

  void array(const Values& items) {
    if (items.empty()) return void(out_ += "[]");
    out_ += '[';
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      separate(i == 0);
      write(items[i]);
    }
    line(--level_);
    out_ += ']';
  }

  void key(const Value& value) {
    switch (value.kind()) {
      case Kind::kString:
      case Kind::kMarkup:
        return text(value.text());
      case Kind::kNone:
      case Kind::kBool:
      case Kind::kInt:
      case Kind::kFloat:
        out_ += '"';
        write(value);
        out_ += '"';
        return;
      default:
        throw Failure(str("tojson: a key of type ", type_name(value), " cannot be written as JSON"));
    }
  }

  void object(const Dict& dict) {
    if (dict.size() == 0) return void(out_ += "{}");
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return less(a->first, b->first, budget_); });
    out_ += '{';
    ++level_;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      separate(i == 0);
      key(entries[i]->first);
      out_ += style_.key_separator;
      write(entries[i]->second);
    }
    line(--level_);
    out_ += '}';
  }

  std::string& out_;
  const JsonStyle& style_;
  Budget& budget_;
  int level_ = 0;
};

}  // namespace

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 64> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  std::string text(buffer.data(), end.ptr);  // d.ddde+XX, the shortest digits
  const std::size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  std::string digits;
  for (const char c : text.substr(0, e))
    if (c >= '0' && c <= '9') digits += c;
  const std::string sign = text[0] == '-' ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction = digits.size() > 1 ? "." + digits.substr(1) : "";
    const std::string shown = std::to_string(std::abs(exponent));
    return sign + digits[0] + fraction + (exponent < 0 ? "e-" : "e+") + (shown.size() < 2 ? "0" : "") + shown;
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  return sign + digits.substr(0, whole) + "." + (digits.size() > whole ? digits.substr(whole) : "0");
}

void append_str(std::string& out, const Value& value, Budget& budget) {
  if (value.is(Kind::kUndefined)) return;
  if (!value.is_text()) return append_repr(out, value, budget);
  budget.text(value.text().size());
  budget.fits(out.size() + value.text().size());
  out += value.text();
}

std::string str_of(const Value& value, Budget& budget) {
  std::string out;
  append_str(out, value, budget);
  return out;
}

std::string repr_of(const Value& value, Budget& budget) {
  std::string out;
  append_repr(out, value, budget);
  return out;
}

void append_repr(std::string& out, const Value& value, Budget& budget) {
  const DepthGuard guard(budget);
  budget.step();
  budget.fits(out.size());
  switch (value.kind()) {
    case Kind::kUndefined:
      out += "Undefined";
      break;
    case Kind::kNone:
      out += "None";
      break;
    case Kind::kBool:
      out += value.as_integer() != 0 ? "True" : "False";
      break;
    case Kind::kInt:
      out += std::to_string(value.as_integer());
      break;
    case Kind::kFloat:
      out += float_repr(value.as_real());
      break;
    case Kind::kString:
      budget.text(value.text().size());
      out += repr(value.text());
      break;
    case Kind::kMarkup:
      budget.text(value.text().size());
      out += "Markup(" + repr(value.text()) + ")";
      break;
    case Kind::kList:
      append_sequence(out, value.items(), "[", "]", budget);
      break;
    case Kind::kTuple:
      append_sequence(out, value.items(), "(", value.items().size() == 1 ? ",)" : ")", budget);
      break;
    case Kind::kDict:
      append_entries(out, value.as<Dict>().entries(), budget);
      break;
    case Kind::kRange:
      append_range(out, value.as<Range>());
      break;
    case Kind::kView:
      append_view(out, value, budget);
      break;
    case Kind::kNamespace:
      append_namespace(out, value, budget);
      break;
    // Python shows an address in memory here, or a name of its own internals.
    default:
      throw Failure(
          str("a value of type ", type_name(value), " has no text of its own; a list was meant? (| list)"));
  }
}

void append_json(std::string& out, const Value& value, const JsonStyle& style, Budget& budget) {
  JsonWriter(out, style, budget).write(value);
}

}  // namespace ithaca::jinja
