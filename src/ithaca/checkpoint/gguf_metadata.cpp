#include "ithaca/checkpoint/gguf_metadata.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "ithaca/base/json.h"

namespace ithaca {
namespace {

bool is_utf8(const std::string& text) {
  try {
    (void)Json(text).dump();
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

// The file holds 1e-5 as float32, 9.999999747378752e-06; the shortest decimal that gives that float32 again
// is what its author wrote.
double as_written(double value) {
  const float narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  char digits[64] = {};
  std::to_chars(digits, digits + sizeof(digits) - 1, narrow);
  return std::strtod(digits, nullptr);
}

}  // namespace

std::optional<int64_t> GgufMetadata::integer(const std::string& key, int64_t minimum, int64_t maximum) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::nullopt;
  std::optional<int64_t> value;
  if (const int64_t* narrow = std::get_if<int64_t>(&found->second)) value = *narrow;
  if (const uint64_t* wide = std::get_if<uint64_t>(&found->second); wide && *wide <= INT64_MAX)
    value = static_cast<int64_t>(*wide);
  if (!value || *value < minimum || *value > maximum)
    throw bad(key, str("must be an integer from ", minimum, " to ", maximum));
  return value;
}

int64_t GgufMetadata::required_integer(const std::string& key, int64_t minimum, int64_t maximum) const {
  const std::optional<int64_t> value = integer(key, minimum, maximum);
  if (!value) throw bad(key, "is missing");
  return *value;
}

std::optional<double> GgufMetadata::real(const std::string& key) const {
  const std::optional<double> found = value<double>(key, "a float");
  if (!found) return std::nullopt;
  if (!std::isfinite(*found)) throw bad(key, "must be finite");
  return as_written(*found);
}

std::optional<std::string> GgufMetadata::text(const std::string& key) const {
  const std::string* found = find<std::string>(key, "a string");
  if (!found) return std::nullopt;
  if (!is_utf8(*found)) throw bad(key, "is not valid UTF-8");
  return *found;
}

const std::vector<std::string>* GgufMetadata::texts(const std::string& key) const {
  const auto* found = find<std::vector<std::string>>(key, "an array of strings");
  if (!found) return nullptr;
  for (std::size_t i = 0; i < found->size(); ++i)
    if (!is_utf8((*found)[i])) throw bad(key, str("entry ", i, " is not valid UTF-8"));
  return found;
}

}  // namespace ithaca
