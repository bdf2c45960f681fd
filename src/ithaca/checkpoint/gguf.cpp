#include "ithaca/checkpoint/gguf.h"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

static_assert(std::endian::native == std::endian::little,
              "GGUF files are little-endian and are read in place");

constexpr uint32_t kMaxDims = 4;              // ggml's GGML_MAX_DIMS
constexpr uint64_t kDefaultAlignment = 32;    // of the data section and of each tensor in it
constexpr std::size_t kMaxNameBytes = 65535;  // of a key, by the format's text

constexpr std::array<GgmlTypeInfo, 10> kTypes = {{{GgmlType::kF32, "F32", 1, 4},
                                                  {GgmlType::kF16, "F16", 1, 2},
                                                  {GgmlType::kBF16, "BF16", 1, 2},
                                                  {GgmlType::kQ4_0, "Q4_0", 32, 18},
                                                  {GgmlType::kQ4_1, "Q4_1", 32, 20},
                                                  {GgmlType::kQ5_0, "Q5_0", 32, 22},
                                                  {GgmlType::kQ5_1, "Q5_1", 32, 24},
                                                  {GgmlType::kQ8_0, "Q8_0", 32, 34},
                                                  {GgmlType::kQ4_K, "Q4_K", 256, 144},
                                                  {GgmlType::kQ6_K, "Q6_K", 256, 210}}};

const GgmlTypeInfo* find_type(uint32_t id) {
  for (const GgmlTypeInfo& info : kTypes)
    if (static_cast<uint32_t>(info.type) == id) return &info;
  return nullptr;
}

// Names of ggml types that are not read here, so that a refusal speaks the user's language.
std::string type_name(uint32_t id) {
  static constexpr std::array<std::string_view, 40> kNames = {
      "F32",    "F16",   "Q4_0",  "Q4_1",   "Q4_2",  "Q4_3",  "Q5_0",    "Q5_1",   "Q8_0",    "Q8_1",
      "Q2_K",   "Q3_K",  "Q4_K",  "Q5_K",   "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
      "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8",    "I16",   "I32",     "I64",    "F64",     "IQ1_M",
      "BF16",   "",      "",      "",       "TQ1_0", "TQ2_0", "",        "",       "",        "MXFP4"};
  return id < kNames.size() && !kNames[id].empty() ? std::string(kNames[id]) : str("number ", id);
}

std::string known_types() {
  std::string names;
  for (const GgmlTypeInfo& info : kTypes) names += str(names.empty() ? "" : ", ", info.name);
  return names;
}

enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kFloat64
};

// Walks the file from its start; nothing is read or allocated that the rest of the file could not hold.
class Reader {
 public:
  Reader(std::span<const std::byte> file, const std::string& source) : file_(file), source_(source) {}

  // What is being read, for messages.
  void at(std::string where) { where_ = std::move(where); }
  std::size_t position() const { return position_; }
  std::size_t left() const { return file_.size() - position_; }
  UserError bad(const std::string& why) const { return UserError(str(source_, ": ", where_, ": ", why)); }

  template <class T>
  T number() {
    T value;
    need(sizeof(T));
    std::memcpy(&value, file_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string text() {
    const uint64_t length = number<uint64_t>();
    need(length);
    std::string value(reinterpret_cast<const char*>(file_.data()) + position_, length);
    position_ += length;
    return value;
  }

  // A count of things that each take at least `bytes_each` bytes of what follows.
  uint64_t count(std::size_t bytes_each, const char* what) {
    const uint64_t value = number<uint64_t>();
    if (value > left() / bytes_each)
      throw bad(
          str(value, " ", what, " cannot be in the ", left(), " bytes that follow; is the file truncated?"));
    return value;
  }

  GgufValue value(uint32_t type) {
    switch (type) {
      case kU8:
        return uint64_t{number<uint8_t>()};
      case kI8:
        return int64_t{number<int8_t>()};
      case kU16:
        return uint64_t{number<uint16_t>()};
      case kI16:
        return int64_t{number<int16_t>()};
      case kU32:
        return uint64_t{number<uint32_t>()};
      case kI32:
        return int64_t{number<int32_t>()};
      case kU64:
        return number<uint64_t>();
      case kI64:
        return number<int64_t>();
      case kFloat32:
        return double{number<float>()};
      case kFloat64:
        return number<double>();
      case kBool:
        return number<uint8_t>() != 0;
      case kString:
        return text();
      case kArray:
        return array();
      default:
        throw bad(str("value type ", type, " is unknown (0 to 12 are defined)"));
    }
  }

 private:
  void need(uint64_t bytes) const {
    if (bytes > left())
      throw bad(str("needs ", bytes, " bytes at ", position_, ", only ", left(),
                    " are left; is the file truncated?"));
  }

  GgufValue array() {
    const uint32_t type = number<uint32_t>();
    switch (type) {
      case kU8:
      case kBool:
        return integers<uint8_t>();
      case kI8:
        return integers<int8_t>();
      case kU16:
        return integers<uint16_t>();
      case kI16:
        return integers<int16_t>();
      case kU32:
        return integers<uint32_t>();
      case kI32:
        return integers<int32_t>();
      case kU64:
        return integers<uint64_t>();
      case kI64:
        return integers<int64_t>();
      case kFloat32:
        return floats<float>();
      case kFloat64:
        return floats<double>();
      case kString: {
        std::vector<std::string> values(count(sizeof(uint64_t), "strings"));
        for (std::string& value : values) value = text();
        return values;
      }
      case kArray:
        throw bad("arrays of arrays are not supported");
      default:
        throw bad(str("array of value type ", type, ", which is unknown (0 to 12 are defined)"));
    }
  }

  template <class T>
  GgufValue integers() {
    std::vector<int64_t> values(count(sizeof(T), "numbers"));
    for (int64_t& value : values) {
      const T number_read = number<T>();
      if (!std::in_range<int64_t>(number_read)) throw bad(str(number_read, " does not fit in 63 bits"));
      value = static_cast<int64_t>(number_read);
    }
    return values;
  }

  template <class T>
  GgufValue floats() {
    std::vector<double> values(count(sizeof(T), "numbers"));
    for (double& value : values) value = number<T>();
    return values;
  }

  std::span<const std::byte> file_;
  const std::string& source_;
  std::size_t position_ = 0;
  std::string where_ = "header";
};

void read_preamble(Reader& reader) {
  if (reader.left() < 24 || reader.number<uint32_t>() != 0x46554747)  // "GGUF"
    throw reader.bad("does not start with the four letters GGUF and 20 bytes of counts");
  const uint32_t version = reader.number<uint32_t>();
  if (version == __builtin_bswap32(2) || version == __builtin_bswap32(3))
    throw reader.bad("the file is big-endian; only little-endian files are read");
  if (version != 2 && version != 3)
    throw reader.bad(str("version ", version, " is not supported; 2 and 3 are"));
}

void read_metadata(Reader& reader, uint64_t count, GgufHeader& header) {
  for (uint64_t i = 0; i < count; ++i) {
    reader.at(str("metadata entry ", i));
    std::string key = reader.text();
    if (key.empty() || key.size() > kMaxNameBytes)
      throw reader.bad(str("its key has ", key.size(), " bytes, expected 1 to ", kMaxNameBytes));
    reader.at(str("key ", key));
    const uint32_t type = reader.number<uint32_t>();
    if (!header.metadata.emplace(key, reader.value(type)).second) throw reader.bad("occurs twice");
  }
}

uint64_t read_alignment(const Reader& reader, const GgufHeader& header) {
  const auto found = header.metadata.find("general.alignment");
  if (found == header.metadata.end()) return kDefaultAlignment;
  const uint64_t* alignment = std::get_if<uint64_t>(&found->second);
  if (!alignment || !std::has_single_bit(*alignment) || *alignment > (uint64_t{1} << 31))
    throw reader.bad("general.alignment must be a power of two of at most 2^31");
  return *alignment;
}

// Name, shape and type; `offset` is still relative to the data section.
GgufTensor read_tensor(Reader& reader, uint64_t index) {
  reader.at(str("tensor ", index));
  GgufTensor tensor;
  tensor.name = reader.text();
  if (tensor.name.empty() || tensor.name.size() > kMaxNameBytes)
    throw reader.bad(str("its name has ", tensor.name.size(), " bytes"));
  reader.at(str("tensor ", tensor.name));
  const uint32_t dims = reader.number<uint32_t>();
  if (dims < 1 || dims > kMaxDims) throw reader.bad(str("has ", dims, " dims, expected 1 to ", kMaxDims));
  int64_t elements = 1;
  for (uint32_t dim = 0; dim < dims; ++dim) {
    const uint64_t size = reader.number<uint64_t>();
    if (size == 0 || size > INT64_MAX ||
        __builtin_mul_overflow(elements, static_cast<int64_t>(size), &elements))
      throw reader.bad(
          str("dim ", dim, " has size ", size, ": sizes must be at least 1 and their product below 2^63"));
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const uint32_t type = reader.number<uint32_t>();
  const GgmlTypeInfo* info = find_type(type);
  if (!info)
    throw reader.bad(
        str("is stored as ", type_name(type), ", which is not supported; known are ", known_types()));
  tensor.type = info->type;
  if (tensor.shape.back() % info->block_elements != 0)
    throw reader.bad(str("its row of ", tensor.shape.back(), " elements is no multiple of the ", info->name,
                         " block of ", info->block_elements));
  if (__builtin_mul_overflow(static_cast<std::size_t>(elements / info->block_elements), info->block_bytes,
                             &tensor.bytes))
    throw reader.bad("its byte count does not fit in 64 bits");
  tensor.offset = reader.number<uint64_t>();
  return tensor;
}

// ggml lays tensors one after another, each padded to the alignment; anything else is refused, so that
// tensors neither overlap nor leave the file.
void place_tensors(Reader& reader, uint64_t alignment, std::size_t file_size, GgufHeader& header) {
  const auto align = [&](std::size_t value) { return (value + alignment - 1) & ~(alignment - 1); };
  if (header.tensors.empty()) return;
  reader.at("data section");
  const std::size_t start = align(reader.position());
  if (start > file_size)
    throw reader.bad(
        str("would start at byte ", start, ", but the file holds only ", file_size, "; is it truncated?"));
  const std::size_t available = file_size - start;
  std::size_t expected = 0;
  for (GgufTensor& tensor : header.tensors) {
    reader.at(str("tensor ", tensor.name));
    if (tensor.offset != expected)
      throw reader.bad(str("starts at byte ", tensor.offset, " of the data, expected ", expected));
    if (expected > available || tensor.bytes > available - expected)
      throw reader.bad(str("needs ", tensor.bytes, " bytes from byte ", tensor.offset,
                           " of the data, which has only ", available, "; is the file truncated?"));
    expected = align(expected + tensor.bytes);
    tensor.offset += start;
  }
}

}  // namespace

const GgmlTypeInfo& ggml_type_info(GgmlType type) {
  const GgmlTypeInfo* info = find_type(static_cast<uint32_t>(type));
  ITHACA_CHECK(info, "ggml type ", static_cast<uint32_t>(type));
  return *info;
}

int64_t GgufTensor::numel() const {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return elements;
}

GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& source) {
  Reader reader(file, source);
  read_preamble(reader);
  // the shortest tensor entry: empty name, no dim, type, offset; the shortest metadata entry: empty key,
  // type, one byte
  const uint64_t tensors = reader.count(8 + 4 + 4 + 8, "tensors");
  const uint64_t entries = reader.count(8 + 4 + 1, "metadata entries");
  GgufHeader header;
  read_metadata(reader, entries, header);
  reader.at("metadata");
  const uint64_t alignment = read_alignment(reader, header);
  std::set<std::string_view> names;
  header.tensors.reserve(tensors);
  for (uint64_t i = 0; i < tensors; ++i) {
    header.tensors.push_back(read_tensor(reader, i));
    if (!names.insert(header.tensors.back().name).second) throw reader.bad("occurs twice");
  }
  place_tensors(reader, alignment, file.size(), header);
  return header;
}

}  // namespace ithaca
