// A value of tokenizer.json together with its place in the file, so that every error can say where.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ithaca/base/json.h"

namespace ithaca {

// Refers to a Json that must outlive it.
class JsonNode {
 public:
  JsonNode(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  const Json& value() const { return *value_; }
  const std::string& where() const { return where_; }
  bool has(const std::string& key) const;  // present and not null
  bool is_null() const;

  JsonNode at(const std::string& key) const;  // UserError if absent
  JsonNode item(std::size_t index) const;     // of an array
  std::size_t size() const;                   // UserError unless an array

  std::string text() const;  // UserError unless a string
  std::string text(const std::string& key) const { return at(key).text(); }
  std::string text_or(const std::string& key, const std::string& fallback) const;
  bool flag_or(const std::string& key, bool fallback) const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;  // UserError outside [low, high]

  [[noreturn]] void fail(const std::string& expected) const;
  // The error for a component that is not built: names it and lists those that are.
  [[noreturn]] void unsupported(std::string_view kind, const std::string& name, std::string_view known) const;

 private:
  const Json* value_;
  std::string where_;
};

}  // namespace ithaca
