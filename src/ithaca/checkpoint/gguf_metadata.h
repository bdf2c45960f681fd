// Typed access to a GGUF file's metadata, with errors that name file and key.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/gguf.h"

namespace ithaca {

class GgufMetadata {
 public:
  // The header must outlive this object. `source`: the file's name, for errors.
  GgufMetadata(const GgufHeader& header, std::string source)
      : metadata_(header.metadata), source_(std::move(source)) {}

  // Nothing when the key is absent; UserError when its value is of another type, or outside [minimum,
  // maximum].
  std::optional<int64_t> integer(const std::string& key, int64_t minimum, int64_t maximum) const;
  std::optional<double> real(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const { return value<bool>(key, "true or false"); }
  std::optional<std::string> text(const std::string& key) const;        // valid UTF-8
  const std::vector<std::string>* texts(const std::string& key) const;  // each valid UTF-8
  const std::vector<int64_t>* integers(const std::string& key) const {
    return find<std::vector<int64_t>>(key, "an array of integers");
  }
  const std::vector<double>* reals(const std::string& key) const {
    return find<std::vector<double>>(key, "an array of floats");
  }
  bool has(const std::string& key) const { return metadata_.count(key) != 0; }

  int64_t required_integer(const std::string& key, int64_t minimum, int64_t maximum) const;

  const std::string& source() const { return source_; }
  UserError bad(const std::string& key, const std::string& why) const {
    return UserError(str(source_, ": key ", key, ": ", why));
  }

 private:
  template <class T>
  const T* find(const std::string& key, const char* expected) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end()) return nullptr;
    const T* value = std::get_if<T>(&found->second);
    if (!value) throw bad(key, str("must be ", expected));
    return value;
  }
  template <class T>
  std::optional<T> value(const std::string& key, const char* expected) const {
    const T* found = find<T>(key, expected);
    return found ? std::optional<T>(*found) : std::nullopt;
  }

  const std::map<std::string, GgufValue>& metadata_;
  std::string source_;
};

}  // namespace ithaca
