#include "ithaca/text/json_node.h"

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"

namespace ithaca {

bool JsonNode::is_null() const {
  return value_->is_null();
}

bool JsonNode::has(const std::string& key) const {
  return value_->is_object() && value_->contains(key) && !value_->at(key).is_null();
}

JsonNode JsonNode::at(const std::string& key) const {
  if (!value_->is_object()) fail("an object");
  if (!value_->contains(key)) throw UserError(str(where_, ": the key \"", key, "\" is missing"));
  return JsonNode(value_->at(key), where_ + "." + key);
}

JsonNode JsonNode::item(std::size_t index) const {
  if (index >= size()) fail(str("at least ", index + 1, " elements"));
  return JsonNode((*value_)[index], str(where_, "[", index, "]"));
}

std::size_t JsonNode::size() const {
  if (!value_->is_array()) fail("an array");
  return value_->size();
}

std::string JsonNode::text() const {
  if (!value_->is_string()) fail("a string");
  return value_->get<std::string>();
}

std::string JsonNode::text_or(const std::string& key, const std::string& fallback) const {
  return has(key) ? at(key).text() : fallback;
}

bool JsonNode::flag_or(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  const JsonNode node = at(key);
  if (!node.value().is_boolean()) node.fail("true or false");
  return node.value().get<bool>();
}

std::int64_t JsonNode::integer(std::int64_t low, std::int64_t high) const {
  const bool in_int64 =
      value_->is_number_integer() &&
      !(value_->is_number_unsigned() && value_->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX));
  if (!in_int64 || value_->get<std::int64_t>() < low || value_->get<std::int64_t>() > high)
    fail(str("an integer from ", low, " to ", high));
  return value_->get<std::int64_t>();
}

void JsonNode::fail(const std::string& expected) const {
  std::string found = value_->dump(-1, ' ', true, Json::error_handler_t::replace);
  if (found.size() > 60) found = found.substr(0, 57) + "...";
  throw UserError(str(where_, ": expected ", expected, ", found ", found));
}

void JsonNode::unsupported(std::string_view kind, const std::string& name, std::string_view known) const {
  throw UserError(str(where_, ": the ", kind, " \"", name, "\" is not supported (supported: ", known,
                      "); use a model whose tokenizer.json has one of these"));
}

}  // namespace ithaca
