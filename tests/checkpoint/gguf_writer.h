// Builds GGUF files, good and bad, in memory.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace ithaca {

class GgufWriter {
 public:
  template <class T>
  static std::string raw(T value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  static std::string text(const std::string& value) { return raw(uint64_t{value.size()}) + value; }

  // `type` and the bytes of the value, as they are
  GgufWriter& entry(const std::string& key, uint32_t type, const std::string& bytes) {
    entries_ += text(key) + raw(type) + bytes;
    ++entry_count;
    return *this;
  }
  GgufWriter& u32(const std::string& key, uint32_t value) { return entry(key, 4, raw(value)); }
  GgufWriter& f32(const std::string& key, float value) { return entry(key, 6, raw(value)); }
  GgufWriter& boolean(const std::string& key, bool value) {
    return entry(key, 7, std::string(1, value ? '\1' : '\0'));
  }
  GgufWriter& string(const std::string& key, const std::string& value) { return entry(key, 8, text(value)); }
  GgufWriter& strings(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes = raw(uint32_t{8}) + raw(uint64_t{values.size()});
    for (const std::string& value : values) bytes += text(value);
    return entry(key, 9, bytes);
  }
  GgufWriter& i32s(const std::string& key, const std::vector<int32_t>& values) {
    std::string bytes = raw(uint32_t{5}) + raw(uint64_t{values.size()});
    for (const int32_t value : values) bytes += raw(value);
    return entry(key, 9, bytes);
  }
  GgufWriter& f32s(const std::string& key, const std::vector<float>& values) {
    std::string bytes = raw(uint32_t{6}) + raw(uint64_t{values.size()});
    for (const float value : values) bytes += raw(value);
    return entry(key, 9, bytes);
  }

  // Dims fastest first, as in the file; the data goes to the next aligned place.
  GgufWriter& tensor(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type,
                     const std::string& data) {
    data_.resize((data_.size() + 31) / 32 * 32, '\0');
    tensor_entry(name, dims, type, data_.size());
    data_ += data;
    return *this;
  }
  GgufWriter& tensor_entry(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type,
                           uint64_t offset) {
    tensors_ += text(name) + raw(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) tensors_ += raw(dim);
    tensors_ += raw(type) + raw(offset);
    ++tensor_count;
    return *this;
  }

  std::string file() const {
    std::string bytes = magic + raw(version) + raw(tensor_count) + raw(entry_count) + entries_ + tensors_;
    bytes.resize((bytes.size() + 31) / 32 * 32, '\0');
    return bytes + data_;
  }

  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t tensor_count = 0, entry_count = 0;  // may be set wrong at the end

 private:
  std::string entries_, tensors_, data_;
};

}  // namespace ithaca
