#include <algorithm>
#include <cmath>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/format.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/text.h"

namespace ithaca::jinja {
namespace {

const char* symbol(Arithmetic operation) {
  switch (operation) {
    case Arithmetic::kAdd:
      return "+";
    case Arithmetic::kSubtract:
      return "-";
    case Arithmetic::kMultiply:
      return "*";
    case Arithmetic::kDivide:
      return "/";
    case Arithmetic::kFloorDivide:
      return "//";
    case Arithmetic::kModulo:
      return "%";
    case Arithmetic::kPower:
      return "**";
  }
  return "";
}

[[noreturn]] void unsupported(Arithmetic operation, const Value& a, const Value& b) {
  throw Failure(
      str("the operator ", symbol(operation), " does not take a ", type_name(a), " and a ", type_name(b)));
}

[[noreturn]] void too_large() {
  throw Failure("an integer needs more than 64 bits, which is not supported");
}

void require_not_zero(bool zero) {
  if (zero) throw Failure("division by zero");
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  require_not_zero(b == 0);
  if (b == -1 && a == INT64_MIN) too_large();
  const std::int64_t quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

std::int64_t modulo(std::int64_t a, std::int64_t b) {
  require_not_zero(b == 0);
  if (b == -1) return 0;
  const std::int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

double modulo(double a, double b) {
  require_not_zero(b == 0);
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double floor_divide(double a, double b) {
  const double quotient = (a - modulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    require_not_zero(base == 0);
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  std::int64_t result = 1;
  while (exponent > 0) {
    if (exponent % 2 != 0 && __builtin_mul_overflow(result, base, &result)) too_large();
    exponent /= 2;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) too_large();
  }
  return Value::integer(result);
}

Value integers(Arithmetic operation, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflows = false;
  switch (operation) {
    case Arithmetic::kAdd:
      overflows = __builtin_add_overflow(a, b, &result);
      break;
    case Arithmetic::kSubtract:
      overflows = __builtin_sub_overflow(a, b, &result);
      break;
    case Arithmetic::kMultiply:
      overflows = __builtin_mul_overflow(a, b, &result);
      break;
    case Arithmetic::kDivide:
      require_not_zero(b == 0);
      return Value::real(static_cast<double>(a) / static_cast<double>(b));
    case Arithmetic::kFloorDivide:
      return Value::integer(floor_divide(a, b));
    case Arithmetic::kModulo:
      return Value::integer(modulo(a, b));
    case Arithmetic::kPower:
      return power(a, b);
  }
  if (overflows) too_large();
  return Value::integer(result);
}

double real_power(double a, double b) {
  require_not_zero(a == 0 && b < 0);
  const double result = std::pow(a, b);
  if (std::isnan(result) && !std::isnan(a) && !std::isnan(b))
    throw Failure("a negative number to a broken power is a complex number, which is not supported");
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) throw Failure("a power is too large");
  return result;
}

Value reals(Arithmetic operation, double a, double b) {
  switch (operation) {
    case Arithmetic::kAdd:
      return Value::real(a + b);
    case Arithmetic::kSubtract:
      return Value::real(a - b);
    case Arithmetic::kMultiply:
      return Value::real(a * b);
    case Arithmetic::kDivide:
      require_not_zero(b == 0);
      return Value::real(a / b);
    case Arithmetic::kFloorDivide:
      return Value::real(floor_divide(a, b));
    case Arithmetic::kModulo:
      return Value::real(modulo(a, b));
    case Arithmetic::kPower:
      return Value::real(real_power(a, b));
  }
  return Value::none();
}

Value add_texts(const Value& a, const Value& b, Budget& budget) {
  budget.text(a.text().size() + b.text().size());
  return Value::string(a.text() + b.text());
}

Values add_lists(const Value& a, const Value& b, Budget& budget) {
  budget.values(a.items().size() + b.items().size());
  Values items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return items;
}

Value repeat(const Value& value, std::int64_t count, Budget& budget) {
  const std::size_t times = count > 0 ? static_cast<std::size_t>(count) : 0;
  const bool is_text = value.is(Kind::kString);
  const std::size_t size = is_text ? value.text().size() : value.items().size();
  if (size > 0 && times > budget.limits().text_bytes / size) budget.text(budget.limits().text_bytes + 1);
  if (is_text) {
    budget.text(size * times);
    std::string text;
    text.reserve(size * times);
    for (std::size_t i = 0; size > 0 && i < times; ++i) text += value.text();
    return Value::string(std::move(text));
  }
  budget.values(size * times);
  Values items;
  items.reserve(size * times);
  for (std::size_t i = 0; size > 0 && i < times; ++i)
    items.insert(items.end(), value.items().begin(), value.items().end());
  return value.is(Kind::kList) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

bool is_sequence(const Value& value) {
  return value.is(Kind::kString) || value.is(Kind::kList) || value.is(Kind::kTuple);
}

// The positions that a slice of `length` items takes, as Python's slice.indices.
struct Positions {
  std::int64_t start, step, count;
};

std::int64_t bound(const Value& value, std::int64_t absent, std::int64_t low, std::int64_t high,
                   std::int64_t length) {
  if (value.is(Kind::kNone)) return absent;
  require_defined(value);
  if (!value.is_integral())
    throw Failure(str("a slice needs integers, found a value of type ", type_name(value)));
  std::int64_t at = value.as_integer();
  if (at < 0) at = at < -length ? low : at + length;
  return std::min(std::max(at, low), high);
}

std::int64_t stride_of(const Value& step) {
  if (step.is(Kind::kNone)) return 1;
  require_defined(step);
  if (!step.is_integral())
    throw Failure(str("a slice needs integers, found a value of type ", type_name(step)));
  if (step.as_integer() == 0) throw Failure("a slice's step is zero");
  return std::max(step.as_integer(), -INT64_MAX);
}

Positions positions(const Value& start, const Value& stop, const Value& step, std::int64_t length) {
  const std::int64_t stride = stride_of(step);
  if (stride > 0) {
    const std::int64_t from = bound(start, 0, 0, length, length), to = bound(stop, length, 0, length, length);
    return {from, stride, to > from ? (to - from - 1) / stride + 1 : 0};
  }
  const std::int64_t from = bound(start, length - 1, -1, length - 1, length);
  const std::int64_t to = bound(stop, -1, -1, length - 1, length);
  return {from, stride, from > to ? (from - to - 1) / -stride + 1 : 0};
}

std::string slice_text(std::string_view text, const Positions& at) {
  if (at.count == 0) return "";
  if (at.step == 1) {
    const std::size_t begin = byte_of(text, static_cast<std::size_t>(at.start));
    return std::string(text.substr(begin, byte_of(text.substr(begin), static_cast<std::size_t>(at.count))));
  }
  std::vector<std::uint32_t> begins;  // of each character
  for (std::size_t i = 0; i < text.size(); i += byte_of(text.substr(i), 1))
    begins.push_back(static_cast<std::uint32_t>(i));
  begins.push_back(static_cast<std::uint32_t>(text.size()));
  std::string out;
  for (std::int64_t i = 0; i < at.count; ++i) {
    const auto character = static_cast<std::size_t>(at.start + i * at.step);
    out += text.substr(begins[character], begins[character + 1] - begins[character]);
  }
  return out;
}

std::int64_t part_step(const Range& range, const Positions& at) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(range.step) *
                                   static_cast<std::uint64_t>(at.step));
}

Value slice_range(const Range& range, const Positions& at) {
  auto part = std::make_shared<Range>();
  part->start = at.count > 0 ? range.at(at.start) : range.start;
  part->step = at.count > 1 ? part_step(range, at) : range.step;
  part->size = at.count;
  const __int128 end = part->start + static_cast<__int128>(part->step) * part->size;
  part->stop = static_cast<std::int64_t>(std::clamp<__int128>(end, INT64_MIN, INT64_MAX));
  return Value::object(Kind::kRange, std::move(part));
}

}  // namespace

Value arithmetic(Arithmetic operation, const Value& a, const Value& b, Budget& budget) {
  require_defined(a);
  if (operation == Arithmetic::kModulo && a.is(Kind::kString))
    return Value::string(percent_format(a.text(), b, budget));
  require_defined(b);
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return integers(operation, a.as_integer(), b.as_integer());
    return reals(operation, a.as_real(), b.as_real());
  }
  if (operation == Arithmetic::kAdd && a.kind() == b.kind()) {
    if (a.is(Kind::kString)) return add_texts(a, b, budget);
    if (a.is(Kind::kList)) return Value::list(add_lists(a, b, budget));
    if (a.is(Kind::kTuple)) return Value::tuple(add_lists(a, b, budget));
  }
  if (operation == Arithmetic::kMultiply) {
    if (is_sequence(a) && b.is_integral()) return repeat(a, b.as_integer(), budget);
    if (is_sequence(b) && a.is_integral()) return repeat(b, a.as_integer(), budget);
  }
  unsupported(operation, a, b);
}

Value negate(const Value& value) {
  require_defined(value);
  if (value.is(Kind::kFloat)) return Value::real(-value.as_real());
  if (!value.is_integral()) throw Failure(str("the operator - does not take a ", type_name(value)));
  return integers(Arithmetic::kSubtract, 0, value.as_integer());
}

Value plus(const Value& value) {
  require_defined(value);
  if (value.is(Kind::kFloat)) return value;
  if (!value.is_integral()) throw Failure(str("the operator + does not take a ", type_name(value)));
  return Value::integer(value.as_integer());
}

Value slice(const Value& container, const Value& start, const Value& stop, const Value& step,
            Budget& budget) {
  require_defined(container);
  const bool can = container.is_text() || container.is(Kind::kList) || container.is(Kind::kTuple) ||
                   container.is(Kind::kRange);
  if (!can) throw Failure(str("a value of type ", type_name(container), " cannot be sliced"));
  const Positions at = positions(start, stop, step, static_cast<std::int64_t>(*length_of(container)));
  if (container.is_text()) {
    budget.text(container.text().size());
    return Value::string(slice_text(container.text(), at));
  }
  if (container.is(Kind::kRange)) return slice_range(container.as<Range>(), at);
  budget.values(static_cast<std::size_t>(at.count));
  Values items;
  items.reserve(static_cast<std::size_t>(at.count));
  for (std::int64_t i = 0; i < at.count; ++i)
    items.push_back(container.items()[static_cast<std::size_t>(at.start + i * at.step)]);
  return container.is(Kind::kList) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

}  // namespace ithaca::jinja
