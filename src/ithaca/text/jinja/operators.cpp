#include "ithaca/text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/run.h"
#include "ithaca/text/jinja/text.h"

namespace ithaca::jinja {
namespace {

bool equal_items(const Values& a, const Values& b, Budget& budget) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!equal(a[i], b[i], budget)) return false;
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b, Budget& budget) {
  if (a.size() != b.size()) return false;
  for (const Dict::Entry& entry : a.entries()) {
    const Value* other = b.find(entry.first);
    if (!other || !equal(entry.second, *other, budget)) return false;
  }
  return true;
}

bool equal_ranges(const Range& a, const Range& b) {
  if (a.size != b.size || a.size == 0) return a.size == b.size;
  return a.start == b.start && (a.size == 1 || a.step == b.step);
}

bool less_items(const Values& a, const Values& b, Budget& budget) {
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    if (!equal(a[i], b[i], budget)) return less(a[i], b[i], budget);
  return a.size() < b.size();
}

bool in_text(const Value& text, const Value& part, Budget& budget) {
  if (!part.is_text())
    throw Failure(str("'in <string>' needs a string on its left, found a value of type ", type_name(part)));
  budget.search(text.text().size(), part.text().size());
  return text.text().find(part.text()) != std::string::npos;
}

bool in_range(const Range& range, const Value& item) {
  if (!item.is_number()) return false;
  const double real = item.as_real();
  if (item.is(Kind::kFloat) && !(std::abs(real) < 9223372036854775808.0)) return false;
  if (item.is(Kind::kFloat) && static_cast<double>(static_cast<std::int64_t>(real)) != real) return false;
  const std::int64_t number = item.is_integral() ? item.as_integer() : static_cast<std::int64_t>(real);
  const __int128 distance = static_cast<__int128>(number) - range.start;
  return distance % range.step == 0 && distance / range.step >= 0 && distance / range.step < range.size;
}

// Over what can be reached by position; holds it.
struct ItemIterator : Iterator {
  explicit ItemIterator(Value value) : source(std::move(value)) {
    hold(*this, source);
    type_name = "iterator";
  }

  bool next(Value& value) override {
    switch (source.kind()) {
      case Kind::kList:
      case Kind::kTuple: {
        const Values& items = source.items();
        if (position >= items.size()) return false;
        value = items[position++];
        return true;
      }
      case Kind::kString:
      case Kind::kMarkup: {
        const std::string& text = source.text();
        if (position >= text.size()) return false;
        const std::size_t begin = position;
        position = begin + byte_of(std::string_view(text).substr(begin), 1);
        value = Value::string(text.substr(begin, position - begin));
        return true;
      }
      case Kind::kRange: {
        const auto& range = source.as<Range>();
        if (static_cast<std::int64_t>(position) >= range.size) return false;
        value = Value::integer(range.at(static_cast<std::int64_t>(position++)));
        return true;
      }
      case Kind::kDict:
        return of_dict(source.as<Dict>(), ViewPart::kKeys, value);
      case Kind::kView:
        return of_dict(source.as<View>().dict.as<Dict>(), source.as<View>().part, value);
      default:
        return false;
    }
  }

  bool of_dict(const Dict& dict, ViewPart part, Value& value) {
    if (position >= dict.size()) return false;
    const Dict::Entry& entry = dict.entries()[position++];
    value = part == ViewPart::kKeys     ? entry.first
            : part == ViewPart::kValues ? entry.second
                                        : Value::tuple({entry.first, entry.second});
    return true;
  }

  Value source;
  std::size_t position = 0;
};

}  // namespace

void require_defined(const Value& value) {
  if (value.is(Kind::kUndefined)) throw Failure(given(value) ? value.text() : "a value is undefined");
}

bool truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.as_integer() != 0;
    case Kind::kFloat:
      return value.as_real() != 0;
    case Kind::kString:
    case Kind::kMarkup:
      return !value.text().empty();
    default: {
      const std::optional<std::size_t> length = length_of(value);
      return !length || *length > 0;
    }
  }
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.is_text() && b.is_text()) {
    if (a.text().size() == b.text().size()) budget.text(a.text().size());
    return a.text() == b.text();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kList:
    case Kind::kTuple:
      return equal_items(a.items(), b.items(), budget);
    case Kind::kDict:
      return equal_dicts(a.as<Dict>(), b.as<Dict>(), budget);
    case Kind::kRange:
      return equal_ranges(a.as<Range>(), b.as<Range>());
    case Kind::kView:
      throw Failure("views of dicts cannot be compared here; compare lists (| list)");
    default:
      return a.shared().get() == b.shared().get();
  }
}

bool less(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  require_defined(a);
  require_defined(b);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == -1;
  if (a.is_text() && b.is_text()) {
    budget.text(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();
  }
  if (a.kind() == b.kind() && (a.is(Kind::kList) || a.is(Kind::kTuple)))
    return less_items(a.items(), b.items(), budget);
  throw Failure(str("values of the types ", type_name(a), " and ", type_name(b), " have no order"));
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  switch (container.kind()) {
    case Kind::kString:
    case Kind::kMarkup:
      return in_text(container, item, budget);
    case Kind::kDict:
      if (item.is_text()) budget.search(item.text().size(), 1);
      return container.as<Dict>().find(item) != nullptr;
    case Kind::kRange:
      return in_range(container.as<Range>(), item);
    case Kind::kView:
      if (container.as<View>().part == ViewPart::kKeys)
        return container.as<View>().dict.as<Dict>().find(item) != nullptr;
      [[fallthrough]];
    default: {
      const std::shared_ptr<Iterator> iterator = iterate(container);
      for (Value other; iterator->next(other);)
        if (equal(other, item, budget)) return true;
      return false;
    }
  }
}

std::optional<std::size_t> length_of(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
    case Kind::kMarkup:
      return code_points(value.text());
    case Kind::kList:
    case Kind::kTuple:
      return value.items().size();
    case Kind::kDict:
      return value.as<Dict>().size();
    case Kind::kRange:
      return static_cast<std::size_t>(value.as<Range>().size);
    case Kind::kView:
      return value.as<View>().dict.as<Dict>().size();
    default:
      return std::nullopt;
  }
}

bool is_iterable(const Value& value) {
  return value.is_text() || value.is(Kind::kIterator) || length_of(value);
}

std::shared_ptr<Iterator> iterate(const Value& value) {
  if (value.is(Kind::kIterator)) return std::static_pointer_cast<Iterator>(value.shared());
  if (!is_iterable(value)) throw Failure(str("a value of type ", type_name(value), " is not iterable"));
  return std::make_shared<ItemIterator>(value);
}

Values list_of(const Value& iterable, Budget& budget) {
  if (iterable.is(Kind::kList) || iterable.is(Kind::kTuple)) {
    budget.values(iterable.items().size());
    return iterable.items();
  }
  Values items;
  const std::shared_ptr<Iterator> iterator = iterate(iterable);
  for (Value item; iterator->next(item);) {
    budget.values(1);
    items.push_back(std::move(item));
  }
  return items;
}

std::optional<Value> element(const Value& container, const Value& index) {
  if (container.is(Kind::kDict)) {
    if (index.is(Kind::kList) || index.is(Kind::kDict)) return std::nullopt;
    const Value* value = container.as<Dict>().find(index);
    return value ? std::optional<Value>(*value) : std::nullopt;
  }
  const bool by_position = container.is_text() || container.is(Kind::kList) || container.is(Kind::kTuple) ||
                           container.is(Kind::kRange);
  if (!by_position || !index.is_integral()) return std::nullopt;
  const auto length = static_cast<std::int64_t>(*length_of(container));
  const std::int64_t asked = index.as_integer();
  const std::int64_t position = asked < 0 ? asked + length : asked;
  if (position < 0 || position >= length) return std::nullopt;
  if (container.is(Kind::kRange)) return Value::integer(container.as<Range>().at(position));
  if (!container.is_text()) return container.items()[static_cast<std::size_t>(position)];
  const std::string_view text = container.text();
  const std::size_t begin = byte_of(text, static_cast<std::size_t>(position));
  return Value::string(std::string(text.substr(begin, byte_of(text.substr(begin), 1))));
}

}  // namespace ithaca::jinja
