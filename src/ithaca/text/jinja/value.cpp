#include "ithaca/text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/budget.h"

namespace ithaca::jinja {
namespace {

constexpr std::size_t kLinearSearch = 8;
constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);

std::shared_ptr<TextObject> text_object(std::string text) {
  auto object = std::make_shared<TextObject>();
  object->text = std::move(text);
  return object;
}

std::shared_ptr<ListObject> list_object(Values items) {
  auto object = std::make_shared<ListObject>();
  for (const Value& item : items) hold(*object, item);
  object->items = std::move(items);
  return object;
}

int key_rank(const Value& key) {
  if (key.is_number()) return 1;
  if (key.is_text()) return 2;
  return key.is(Kind::kTuple) ? 3 : 0;  // None and undefined
}

int compare(std::int64_t a, std::int64_t b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

// Exactly: a float64 does not hold every int64.
int compare(std::int64_t a, double b) {
  constexpr double kEdge = 9223372036854775808.0;  // 2^63
  if (b >= kEdge) return -1;
  if (b < -kEdge) return 1;
  const auto whole = static_cast<std::int64_t>(b);
  if (a != whole) return compare(a, whole);
  const double rest = b - static_cast<double>(whole);
  return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

bool is_nan(const Value& value) {
  return value.is(Kind::kFloat) && std::isnan(value.as_real());
}

// NaN comes first, so that keys have an order.
bool number_less(const Value& a, const Value& b) {
  if (is_nan(a) || is_nan(b)) return is_nan(a) && !is_nan(b);
  return *compare_numbers(a, b) < 0;
}

}  // namespace

std::optional<int> compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return compare(a.as_integer(), b.as_integer());
  if (is_nan(a) || is_nan(b)) return std::nullopt;
  if (a.is_integral()) return compare(a.as_integer(), b.as_real());
  if (b.is_integral()) return -compare(b.as_integer(), a.as_real());
  return a.as_real() < b.as_real() ? -1 : a.as_real() > b.as_real() ? 1 : 0;
}

void hold(Object& object, const Value& held) {
  object.depth = std::max(object.depth, held.depth() + 1);
  if (object.depth > kMaxValueDepth)
    throw Failure(str("values nest deeper than the bound of ", kMaxValueDepth, " levels"));
}

Value Value::object(Kind kind, std::shared_ptr<Object> object) {
  Value value(kind);
  value.object_ = std::move(object);
  return value;
}

Value Value::undefined(std::string message) {
  return object(Kind::kUndefined, text_object(std::move(message)));
}
Value Value::boolean(bool truth) {
  Value value(Kind::kBool);
  value.integer_ = truth ? 1 : 0;
  return value;
}
Value Value::integer(std::int64_t number) {
  Value value(Kind::kInt);
  value.integer_ = number;
  return value;
}
Value Value::real(double number) {
  Value value(Kind::kFloat);
  value.real_ = number;
  return value;
}
Value Value::string(std::string text) {
  return object(Kind::kString, text_object(std::move(text)));
}
Value Value::markup(std::string text) {
  return object(Kind::kMarkup, text_object(std::move(text)));
}
Value Value::list(Values items) {
  return object(Kind::kList, list_object(std::move(items)));
}
Value Value::tuple(Values items) {
  return object(Kind::kTuple, list_object(std::move(items)));
}

Value Value::dict(std::vector<std::pair<Value, Value>> entries) {
  auto object = std::make_shared<Dict>();
  for (auto& [key, value] : entries) object->set(key, std::move(value));
  return Value::object(Kind::kDict, std::move(object));
}

double Value::as_real() const {
  return kind_ == Kind::kFloat ? real_ : static_cast<double>(integer_);
}
const std::string& Value::text() const {
  return as<TextObject>().text;
}
const Values& Value::items() const {
  return as<ListObject>().items;
}

bool KeyLess::operator()(const Value& a, const Value& b) const {
  const int rank = key_rank(a);
  if (rank != key_rank(b)) return rank < key_rank(b);
  switch (rank) {
    case 0:
      return a.kind() < b.kind();
    case 1:
      return number_less(a, b);
    case 2:
      return a.text() < b.text();
    default:
      return std::lexicographical_compare(a.items().begin(), a.items().end(), b.items().begin(),
                                          b.items().end(), KeyLess());
  }
}

bool KeyLess::operator()(const Value& a, std::string_view b) const {
  const int rank = key_rank(a);
  return rank == 2 ? a.text() < b : rank < 2;
}

bool KeyLess::operator()(std::string_view a, const Value& b) const {
  const int rank = key_rank(b);
  return rank == 2 ? a < b.text() : rank > 2;
}

std::size_t Dict::position(std::string_view key) const {
  if (index_.empty()) {
    for (std::size_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].first.is_text() && entries_[i].first.text() == key) return i;
    return kNowhere;
  }
  const auto at = index_.find(key);
  return at == index_.end() ? kNowhere : at->second;
}

std::size_t Dict::position(const Value& key) const {
  require_hashable(key);
  if (key.is_text()) return position(std::string_view(key.text()));
  if (index_.empty()) {
    const KeyLess less;
    for (std::size_t i = 0; i < entries_.size(); ++i)
      if (!less(entries_[i].first, key) && !less(key, entries_[i].first)) return i;
    return kNowhere;
  }
  const auto at = index_.find(key);
  return at == index_.end() ? kNowhere : at->second;
}

const Value* Dict::find(const Value& key) const {
  const std::size_t at = position(key);
  return at == kNowhere ? nullptr : &entries_[at].second;
}

const Value* Dict::find(std::string_view key) const {
  const std::size_t at = position(key);
  return at == kNowhere ? nullptr : &entries_[at].second;
}

void Dict::set(const Value& key, Value value) {
  hold(*this, key);
  hold(*this, value);
  if (const std::size_t at = position(key); at != kNowhere) {
    entries_[at].second = std::move(value);
    return;
  }
  entries_.emplace_back(key, std::move(value));
  if (!index_.empty()) {
    index_.emplace(key, entries_.size() - 1);
  } else if (entries_.size() > kLinearSearch) {
    for (std::size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].first, i);
  }
}

void require_hashable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kString:
    case Kind::kMarkup:
      return;
    case Kind::kTuple:
      if (value.depth() > 2) throw Failure("a tuple that holds tuples cannot be a key here");
      for (const Value& item : value.items()) require_hashable(item);
      return;
    default:
      throw Failure(str("a ", type_name(value), " cannot be a key or be compared by hash"));
  }
}

const char* type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kMarkup:
      return "Markup";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kRange:
      return "range";
    case Kind::kView: {
      const ViewPart part = value.as<View>().part;
      return part == ViewPart::kKeys ? "dict_keys" : part == ViewPart::kValues ? "dict_values" : "dict_items";
    }
    case Kind::kIterator:
      return value.as<Iterator>().type_name;
    case Kind::kNamespace:
      return "TemplateNamespace";
    case Kind::kMacro:
      return "Macro";
    case Kind::kMethod:
      return "builtin_function_or_method";
    case Kind::kFunction:
      return "function";
    case Kind::kLoop:
      return "LoopContext";
  }
  return "object";
}

}  // namespace ithaca::jinja
