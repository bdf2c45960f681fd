#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/format.h"
#include "ithaca/text/jinja/operators.h"
#include "ithaca/text/jinja/text.h"

namespace ithaca::jinja {
namespace {

constexpr int kMaxWidth = 1000;

struct Directive {
  std::string flags;
  int width = 0, precision = -1;
  char type = 's';
};

class PercentFormatter {
 public:
  PercentFormatter(std::string_view format, const Value& argument, Budget& budget)
      : format_(format),
        arguments_(argument.is(Kind::kTuple) ? argument.items() : Values{argument}),
        named_(argument.is(Kind::kDict) ? &argument : nullptr),
        // What Python could look keys up in need not be used.
        may_be_left_(named_ || argument.is(Kind::kList) || argument.is(Kind::kRange)),
        budget_(budget) {}

  std::string run() {
    bool by_name = false;
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        const std::size_t end = std::min(format_.find('%', at_), format_.size());
        append(format_.substr(at_, end - at_));
        at_ = end;
        continue;
      }
      ++at_;
      if (peek() == '%') {
        append("%");
        ++at_;
        continue;
      }
      const Value* value = nullptr;
      if (peek() == '(') {
        value = &by_key();
        by_name = true;
      }
      const Directive directive = read();
      append(shown(directive, value ? *value : next()));
    }
    if (used_ < arguments_.size() && !by_name && !may_be_left_)
      throw Failure("not all arguments are used by the format string");
    return std::move(out_);
  }

 private:
  char peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }

  void append(std::string_view text) {
    budget_.text(text.size());
    budget_.fits(out_.size() + text.size());
    out_ += text;
  }

  const Value& next() {
    if (used_ >= arguments_.size()) throw Failure("not enough arguments for the format string");
    return arguments_[used_++];
  }

  const Value& by_key() {
    if (!named_) throw Failure("a format string with names needs a mapping");
    const std::size_t end = format_.find(')', at_);
    if (end == std::string_view::npos) throw Failure("a format string's name has no end");
    const std::string_view key = format_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    const Value* value = named_->as<Dict>().find(key);
    if (!value) throw Failure(str("a format string's name \"", std::string(key), "\" is not in the mapping"));
    return *value;
  }

  int number() {
    int value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = value * 10 + (format_[at_++] - '0');
      if (value > kMaxWidth) throw Failure(str("a format string's width is above the bound of ", kMaxWidth));
    }
    return value;
  }

  Directive read() {
    Directive directive;
    while (peek() != '\0' && std::string_view("-+ 0#").find(peek()) != std::string_view::npos)
      directive.flags += format_[at_++];
    if (directive.flags.size() > 5) throw Failure("a format string repeats its flags");
    directive.width = number();
    if (peek() == '.') {
      ++at_;
      directive.precision = number();
    }
    if (std::string_view("srdiuxXoeEfFgGc").find(peek()) == std::string_view::npos || peek() == '\0')
      throw Failure("a format string has a directive that is not supported");
    directive.type = format_[at_++];
    return directive;
  }

  std::string shown(const Directive& directive, const Value& value) {
    switch (directive.type) {
      case 's':
        return padded(directive, str_of(value, budget_));
      case 'r':
        return padded(directive, repr_of(value, budget_));
      case 'c':
        return padded(directive, character(value));
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return integer(directive, value);
      default:
        return real(directive, value);
    }
  }

  static std::string character(const Value& value) {
    if (!value.is_text() || code_points(value.text()) != 1) throw Failure("%c needs one character");
    return value.text();
  }

  // Text within its precision and width.
  static std::string padded(const Directive& directive, std::string text) {
    if (directive.precision >= 0) text.resize(byte_of(text, static_cast<std::size_t>(directive.precision)));
    const std::size_t length = code_points(text), width = static_cast<std::size_t>(directive.width);
    if (length >= width) return text;
    const std::string fill(width - length, ' ');
    return directive.flags.find('-') != std::string::npos ? text + fill : fill + text;
  }

  template <class Number>
  static std::string printed(const Directive& directive, std::string_view length, char type, Number number) {
    std::string format = "%" + directive.flags + "*.*" + std::string(length) + type;
    std::array<char, kMaxWidth + 400 + kMaxWidth> buffer{};
    const int size = std::snprintf(buffer.data(), buffer.size(), format.c_str(), directive.width,
                                   directive.precision, number);
    if (size < 0 || static_cast<std::size_t>(size) >= buffer.size())
      throw Failure("a formatted number is too long");
    return {buffer.data(), static_cast<std::size_t>(size)};
  }

  static std::string integer(const Directive& directive, const Value& value) {
    const bool decimal = directive.type == 'd' || directive.type == 'i' || directive.type == 'u';
    require_defined(value);
    if (!value.is_integral() && !(decimal && value.is(Kind::kFloat)))
      throw Failure(str("%", directive.type, " needs a number, found a value of type ", type_name(value)));
    const double real = value.as_real();
    if (!value.is_integral() && !(std::abs(real) < 9223372036854775808.0))
      throw Failure("a number to format is beyond 64 bits");
    const long long whole = value.is_integral() ? value.as_integer() : static_cast<long long>(real);
    if (decimal) return printed(directive, "ll", 'd', whole);
    if (whole < 0 || directive.flags.find_first_of("#+ ") != std::string::npos)
      throw Failure("%x and %o of negative numbers or with signs and prefixes are not supported");
    return printed(directive, "ll", directive.type, whole);
  }

  static std::string real(const Directive& directive, const Value& value) {
    require_defined(value);
    if (!value.is_number())
      throw Failure(str("%", directive.type, " needs a number, found a value of type ", type_name(value)));
    return printed(directive, "", directive.type, value.as_real());
  }

  std::string_view format_;
  const Values arguments_;
  const Value* named_;
  const bool may_be_left_;
  Budget& budget_;
  std::size_t at_ = 0, used_ = 0;
  std::string out_;
};

}  // namespace

std::string percent_format(std::string_view format, const Value& argument, Budget& budget) {
  return PercentFormatter(format, argument, budget).run();
}

std::string brace_format(std::string_view format, const Values& arguments,
                         const std::vector<std::pair<std::string, Value>>& named, Budget& budget) {
  std::string out;
  std::size_t counted = 0;
  const auto append = [&](std::string_view text) {
    budget.text(text.size());
    budget.fits(out.size() + text.size());
    out += text;
  };
  const auto field = [&](std::string_view name) -> const Value& {
    const bool is_number =
        !name.empty() && name.size() < 7 && name.find_first_not_of("0123456789") == std::string_view::npos;
    if (name.empty() || is_number) {
      const std::size_t index = name.empty() ? counted++ : std::stoul(std::string(name));
      if (index >= arguments.size()) throw Failure("format(): not enough arguments");
      return arguments[index];
    }
    budget.steps(named.size());
    for (const auto& [key, value] : named)
      if (key == name) return value;
    throw Failure(str("format(): the field \"{", std::string(name),
                      "}\" is not supported: expected {}, {number} or the name of an argument"));
  };
  for (std::size_t at = 0; at < format.size();) {
    const std::size_t brace = std::min(format.find_first_of("{}", at), format.size());
    append(format.substr(at, brace - at));
    at = brace;
    if (at == format.size()) break;
    if (format.substr(at, 2) == "{{" || format.substr(at, 2) == "}}") {
      append(format.substr(at, 1));
      at += 2;
      continue;
    }
    const std::size_t end = format.find('}', at);
    if (format[at] == '}' || end == std::string_view::npos) throw Failure("format(): a single brace");
    std::string_view name = format.substr(at + 1, end - at - 1);
    at = end + 1;
    const bool as_repr = name.ends_with("!r");
    if (as_repr || name.ends_with("!s")) name.remove_suffix(2);
    const Value& value = field(name);
    append(as_repr ? repr_of(value, budget) : str_of(value, budget));
  }
  return out;
}

}  // namespace ithaca::jinja
