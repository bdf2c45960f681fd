#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/text.h"

namespace ithaca::jinja {
namespace {

[[noreturn]] void too_large() {
  throw Failure("an integer needs more than 64 bits, which is not supported");
}

// Takes the underscores between digits away; nothing where one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is_alnum_at = [&](std::size_t k) {
      return k < text.size() && std::isalnum(static_cast<unsigned char>(text[k])) != 0;
    };
    if (text[i] != '_')
      out += text[i];
    else if (i == 0 || !is_alnum_at(i - 1) || !is_alnum_at(i + 1))
      return std::nullopt;
  }
  return out;
}

// Python's int(text, base), in ASCII digits.
std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  std::optional<std::string> digits = without_underscores(strip(text));
  if (!digits) return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const auto prefix = [&](char letter) {
    return rest.size() > 1 && rest[0] == '0' && (rest[1] | 0x20) == letter;
  };
  for (const auto& [letter, of_base] : {std::pair{'x', 16}, std::pair{'o', 8}, std::pair{'b', 2}}) {
    if ((base != 0 && base != of_base) || !prefix(letter)) continue;
    rest.remove_prefix(2);
    base = of_base;
    break;
  }
  if (base == 0) base = 10;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value, base);
  if (rest.empty() || end != rest.data() + rest.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range || value > (std::uint64_t{1} << 63) - (negative ? 0 : 1))
    too_large();
  if (error != std::errc()) return std::nullopt;
  return negative ? static_cast<std::int64_t>(0 - value) : static_cast<std::int64_t>(value);
}

// Python's float(text).
std::optional<double> parse_real(std::string_view text) {
  const std::optional<std::string> cleaned = without_underscores(strip(text));
  if (!cleaned) return std::nullopt;
  std::string_view rest = *cleaned;
  if (rest.starts_with('+') && !rest.starts_with("+-")) rest.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (rest.empty() || end != rest.data() + rest.size()) return std::nullopt;
  if (rest.find('(') != std::string_view::npos) return std::nullopt;  // nan(...)
  if (error == std::errc::result_out_of_range) return std::strtod(std::string(rest).c_str(), nullptr);
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> truncated(double value) {
  if (std::isnan(value)) return std::nullopt;
  if (std::isinf(value)) throw Failure("infinity cannot be made an integer");
  if (std::abs(value) >= 9223372036854775808.0) too_large();
  return static_cast<std::int64_t>(value);
}

Value to_integer(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter int", arguments, {"default", "base"});
  require_defined(input);
  const std::int64_t base = integer_argument("the filter int", bound[1], 10);
  if (base != 0 && (base < 2 || base > 36)) throw Failure("the filter int needs a base of 0 or from 2 to 36");
  const Value fallback = given(bound[0]) ? bound[0] : Value::integer(0);
  if (input.is_integral()) return Value::integer(input.as_integer());
  std::optional<std::int64_t> number;
  if (input.is(Kind::kFloat)) {
    number = truncated(input.as_real());
  } else if (input.is_text()) {
    run.budget.text(input.text().size());
    number = parse_integer(input.text(), static_cast<int>(base));
    if (const std::optional<double> real = number ? std::nullopt : parse_real(input.text());
        real && std::isfinite(*real))
      number = truncated(*real);
  }
  return number ? Value::integer(*number) : fallback;
}

Value to_real(Run& run, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter float", arguments, {"default"});
  require_defined(input);
  const Value fallback = given(bound[0]) ? bound[0] : Value::real(0);
  if (input.is_number()) return Value::real(input.as_real());
  if (!input.is_text()) return fallback;
  run.budget.text(input.text().size());
  const std::optional<double> real = parse_real(input.text());
  return real ? Value::real(*real) : fallback;
}

Value absolute(Run&, const Value& input, const Arguments& arguments) {
  bind_arguments("the filter abs", arguments, {});
  require_defined(input);
  if (input.is(Kind::kFloat)) return Value::real(std::abs(input.as_real()));
  if (!input.is_integral()) throw Failure(str("the filter abs does not take a ", type_name(input)));
  return input.as_integer() < 0 ? negate(input) : Value::integer(input.as_integer());
}

// To `precision` decimals, of two equally near ones the even one; exact, as the digits are those of the value.
double rounded(double value, std::int64_t precision) {
  constexpr std::int64_t kAllDigits = 323;  // no float64 has more
  if (!std::isfinite(value) || precision > kAllDigits) return value;
  std::array<char, 700> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(precision), value);
  return std::strtod(buffer.data(), nullptr);
}

Value round(Run&, const Value& input, const Arguments& arguments) {
  const Values bound = bind_arguments("the filter round", arguments, {"precision", "method"});
  require_defined(input);
  if (!input.is_number()) throw Failure(str("the filter round does not take a ", type_name(input)));
  const std::int64_t precision = integer_argument("the filter round", bound[0], 0);
  const std::string method = given(bound[1]) ? text_argument("the filter round", bound[1]) : "common";
  if (precision < 0) throw Failure("the filter round to a negative precision is not supported");
  if (method == "common")
    return input.is_integral() ? Value::integer(input.as_integer())
                               : Value::real(rounded(input.as_real(), precision));
  if (method != "ceil" && method != "floor")
    throw Failure("the filter round needs the method common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.as_real() * scale;
  if (!std::isfinite(scaled)) throw Failure("the filter round is given a number that is too large");
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

constexpr std::array<Filter, 4> kNumberFilters{
    {{"int", &to_integer}, {"float", &to_real}, {"abs", &absolute}, {"round", &round}}};

}  // namespace

const Filter* find_number_filter(std::string_view name) {
  const auto at = std::find_if(kNumberFilters.begin(), kNumberFilters.end(),
                               [&](const Filter& row) { return row.name == name; });
  return at == kNumberFilters.end() ? nullptr : &*at;
}

}  // namespace ithaca::jinja
