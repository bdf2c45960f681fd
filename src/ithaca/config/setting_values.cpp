// Text <-> value of one setting.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "ithaca/config/settings_table.h"

namespace ithaca {
namespace {

constexpr double kLargestExact = 9007199254740992.0;  // 2^53

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return lower;
}

std::optional<double> parse_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

// Also 5e8 and 8.0, which people write in configs.
std::optional<int64_t> parse_integer(std::string_view text) {
  const auto value = parse_number(text);
  if (!value || *value != std::floor(*value) || std::abs(*value) > kLargestExact) return std::nullopt;
  return static_cast<int64_t>(*value);
}

bool in_range(const SettingInfo& info, double value) {
  return (info.above_minimum ? value > info.minimum : value >= info.minimum) && value <= info.maximum;
}

std::string number_text(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end);
}

// 1000000 rather than 1e+06
std::string bound_text(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) <= kLargestExact;
  return whole ? std::to_string(static_cast<int64_t>(value)) : number_text(value);
}

std::optional<std::string> set_text(const SettingInfo& info, std::string_view text, std::string& field) {
  std::string value(text);
  if (const auto boolean = info.boolean_words ? parse_boolean(text) : std::nullopt)
    value = !*boolean ? "false" : is_choice(info.choices, "full") ? "full" : "true";
  if (is_choice(info.later, value)) return expected_text(info) + " (that one comes later)";
  if (!info.choices.empty() && !is_choice(info.choices, value)) return expected_text(info);
  if (value.find('\0') != std::string::npos) return "text without a zero byte";
  field = std::move(value);
  return std::nullopt;
}

}  // namespace

bool is_choice(std::string_view choices, std::string_view word) {
  while (!choices.empty()) {
    const std::size_t bar = std::min(choices.find('|'), choices.size());
    if (choices.substr(0, bar) == word) return true;
    choices.remove_prefix(std::min(bar + 1, choices.size()));
  }
  return false;
}

std::optional<bool> parse_boolean(std::string_view word) {
  const std::string lower = lower_case(word);
  for (const char* yes : {"true", "t", "yes", "y", "on", "1"})
    if (lower == yes) return true;
  for (const char* no : {"false", "f", "no", "n", "off", "0"})
    if (lower == no) return false;
  return std::nullopt;
}

std::optional<std::string> set_value(const SettingInfo& info, std::string_view text, Settings& settings) {
  if (const auto* field = std::get_if<std::string Settings::*>(&info.member))
    return set_text(info, text, settings.**field);
  if (const auto* field = std::get_if<bool Settings::*>(&info.member)) {
    const auto value = parse_boolean(text);
    if (!value) return expected_text(info);
    settings.** field = *value;
  } else if (const auto* field = std::get_if<int64_t Settings::*>(&info.member)) {
    if (!info.word.empty() && text == info.word) {
      settings.** field = info.word_value;
      return std::nullopt;
    }
    const auto value = parse_integer(text);
    if (!value || !in_range(info, static_cast<double>(*value))) return expected_text(info);
    settings.** field = *value;
  } else {
    const auto value = parse_number(text);
    if (!value || !in_range(info, *value)) return expected_text(info);
    settings.*std::get<double Settings::*>(info.member) = *value;
  }
  return std::nullopt;
}

std::string value_text(const SettingInfo& info, const Settings& settings) {
  if (const auto* field = std::get_if<std::string Settings::*>(&info.member)) return settings.**field;
  if (const auto* field = std::get_if<bool Settings::*>(&info.member))
    return settings.**field ? "true" : "false";
  if (const auto* field = std::get_if<int64_t Settings::*>(&info.member))
    return !info.word.empty() && settings.**field == info.word_value ? std::string(info.word)
                                                                     : std::to_string(settings.**field);
  return number_text(settings.*std::get<double Settings::*>(info.member));
}

std::string expected_text(const SettingInfo& info) {
  if (!info.choices.empty()) {
    std::string words(info.choices);
    for (std::size_t bar; (bar = words.find('|')) != std::string::npos;) words.replace(bar, 1, ", ");
    return (words.find(',') == std::string::npos ? "" : "one of ") + words;
  }
  if (std::holds_alternative<std::string Settings::*>(info.member)) return "text";
  if (std::holds_alternative<bool Settings::*>(info.member)) return "true or false";
  std::string text = std::holds_alternative<int64_t Settings::*>(info.member) ? "an integer" : "a number";
  if (std::isfinite(info.minimum))
    text += (info.above_minimum ? " above " : " from ") + bound_text(info.minimum);
  if (std::isfinite(info.maximum))
    text += (info.above_minimum ? ", at most " : " to ") + bound_text(info.maximum);
  if (!info.word.empty()) text += str(", or ", info.word);
  return text;
}

}  // namespace ithaca
