#include "ithaca/config/config_reader.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace ithaca {
namespace {

constexpr double kLargestExact =
    9007199254740992.0;  // 2^53: above it a double no longer tells neighbours apart

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace

std::optional<int64_t> exact_integer(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{1} << 53) return std::nullopt;
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  if (!(std::abs(number) <= kLargestExact) || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

const Json* ConfigReader::find(const std::string& key) const {
  const auto found = object_.find(key);
  return found == object_.end() ? nullptr : &*found;
}

bool ConfigReader::has_value(const std::string& key) const {
  const Json* value = find(key);
  return value && !value->is_null();
}

void ConfigReader::problem(const std::string& key, const Json* value, const std::string& expected) {
  if (value)
    problems_.add(str(source_, ": ", prefix_, key, " is ", shown(*value), "; expected ", expected));
  else
    problems_.add(str(source_, ": ", prefix_, key, " is missing; expected ", expected));
}

void ConfigReader::add(const std::string& what) {
  problems_.add(str(source_, ": ", prefix_, what));
}

ConfigReader ConfigReader::inside(const std::string& key) const {
  return ConfigReader(object_.at(key), source_, prefix_ + key + ".", problems_);
}

std::vector<std::string> ConfigReader::check_keys(std::span<const FileKey> keys) {
  std::vector<std::string> unknown;
  for (const auto& [name, value] : object_.items()) {
    const FileKey* key = find_key(keys, name);
    if (!key && !value.is_null()) unknown.push_back(name);
    if (!key || key->use != KeyUse::kRefused || changes_nothing(key->unless, value)) continue;
    const std::string accepted = accepted_values(key->unless);
    problem(name, &value, str(accepted.empty() ? "no value" : accepted, " (", key->remark, ")"));
  }
  return unknown;
}

int64_t ConfigReader::required_size(const std::string& key, int64_t maximum) {
  if (find(key))
    return has_value(key) ? size(key, maximum, 0)
                          : (problem(key, find(key), str("an integer from 1 to ", maximum)), 0);
  problem(key, nullptr, str("an integer from 1 to ", maximum));
  return 0;
}

int64_t ConfigReader::size(const std::string& key, int64_t maximum, int64_t otherwise) {
  if (!has_value(key)) return otherwise;
  const auto value = exact_integer(*find(key));
  if (value && *value >= 1 && *value <= maximum) return *value;
  problem(key, find(key), str("an integer from 1 to ", maximum));
  return 0;
}

std::optional<double> ConfigReader::optional_number(const std::string& key, double minimum, double maximum) {
  if (!has_value(key)) return std::nullopt;
  const Json& value = *find(key);
  if (value.is_number()) {
    const double number = value.get<double>();
    if (number >= minimum && number <= maximum) return number;
  }
  problem(key, &value, str("a number from ", minimum, " to ", maximum));
  return std::nullopt;
}

double ConfigReader::number(const std::string& key, double otherwise, double minimum, double maximum) {
  return optional_number(key, minimum, maximum).value_or(otherwise);
}

double ConfigReader::required_number(const std::string& key, double minimum, double maximum) {
  if (!has_value(key)) problem(key, find(key), str("a number from ", minimum, " to ", maximum));
  return number(key, minimum, minimum, maximum);
}

bool ConfigReader::boolean(const std::string& key, bool otherwise) {
  if (!has_value(key)) return otherwise;
  if (find(key)->is_boolean()) return find(key)->get<bool>();
  problem(key, find(key), "true or false");
  return otherwise;
}

std::string ConfigReader::text(const std::string& key, const std::string& otherwise) {
  if (!has_value(key)) return otherwise;
  if (find(key)->is_string()) return find(key)->get<std::string>();
  problem(key, find(key), "a string");
  return otherwise;
}

}  // namespace ithaca
