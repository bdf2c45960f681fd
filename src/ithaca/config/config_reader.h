// Reads the keys of one JSON object of a model's config.json; whatever is wrong is added to a list and a
// default goes on, so that all problems are told at once. Used inside config/ only.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"
#include "ithaca/config/file_keys.h"
#include "ithaca/config/model_config.h"

namespace ithaca {

// An integer, also when written as 8.0 or 5e8; nothing for fractions, strings, and numbers beyond 2^53.
std::optional<int64_t> exact_integer(const Json& value);

class ConfigReader {
 public:
  // `prefix` is put before a key in messages ("rope_scaling."). All three outlive the reader.
  ConfigReader(const Json& object, const std::string& source, std::string prefix, Problems& problems)
      : object_(object), source_(source), prefix_(std::move(prefix)), problems_(problems) {}

  const Json* find(const std::string& key) const;  // null: absent
  bool has_value(const std::string& key) const;    // present and not JSON null

  int64_t required_size(const std::string& key, int64_t maximum);
  int64_t size(const std::string& key, int64_t maximum, int64_t otherwise);
  // A finite number within [minimum, maximum].
  double number(const std::string& key, double otherwise, double minimum, double maximum);
  std::optional<double> optional_number(const std::string& key, double minimum, double maximum);
  double required_number(const std::string& key, double minimum, double maximum);
  bool boolean(const std::string& key, bool otherwise);
  std::string text(const std::string& key, const std::string& otherwise);

  // "FILE: key is VALUE; expected ..."; a null `value` says "is missing".
  void problem(const std::string& key, const Json* value, const std::string& expected);
  void add(const std::string& what);
  // Adds a problem for every refused key whose value would change something; returns the keys that are in no list and
  // not null.
  std::vector<std::string> check_keys(std::span<const FileKey> keys);

  const std::string& source() const { return source_; }
  // The object under `key`, with its keys named "key.inner" in messages.
  ConfigReader inside(const std::string& key) const;

 private:
  const Json& object_;
  const std::string& source_;
  std::string prefix_;
  Problems& problems_;
};

// rope_scaling, rope_parameters and rope_theta in any of the spellings of transformers 4 and 5. Keys inside that nobody
// reads are named in `notes`.
RopeConfig read_rope_config(ConfigReader& reader, int64_t max_position_embeddings,
                            std::vector<std::string>& notes);

}  // namespace ithaca
