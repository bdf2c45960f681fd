#include "ithaca/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian and are read in place");

constexpr std::size_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

struct DTypeEntry {
  DType dtype;
  const char* name;
  std::size_t size;
};
constexpr std::array<DTypeEntry, 10> kDTypes = {{{DType::kF64, "F64", 8},
                                                 {DType::kF32, "F32", 4},
                                                 {DType::kF16, "F16", 2},
                                                 {DType::kBF16, "BF16", 2},
                                                 {DType::kI64, "I64", 8},
                                                 {DType::kI32, "I32", 4},
                                                 {DType::kI16, "I16", 2},
                                                 {DType::kI8, "I8", 1},
                                                 {DType::kU8, "U8", 1},
                                                 {DType::kBool, "BOOL", 1}}};

const DTypeEntry& entry_of(DType dtype) {
  return kDTypes.at(static_cast<std::size_t>(dtype));
}

std::optional<DType> dtype_of(const std::string& name) {
  for (const DTypeEntry& entry : kDTypes)
    if (name == entry.name) return entry.dtype;
  return std::nullopt;
}

std::string known_dtypes() {
  std::string names;
  for (const DTypeEntry& entry : kDTypes) names += str(names.empty() ? "" : ", ", entry.name);
  return names;
}

// Bytes of a dense tensor; nothing on overflow.
std::optional<std::size_t> byte_count(DType dtype, const std::vector<int64_t>& shape) {
  std::size_t bytes = dtype_size(dtype);
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<std::size_t>(size), &bytes))
      return std::nullopt;
  return bytes;
}

// One entry of the header, whose place in the buffer is not yet checked against the others.
class EntryReader {
 public:
  EntryReader(const std::string& source, const std::string& name) : source_(source), name_(name) {}

  TensorInfo read(const Json& entry) const {
    if (!entry.is_object()) throw bad("must be an object with dtype, shape and data_offsets");
    for (const auto& [key, value] : entry.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        throw bad(str("has an unknown key \"", key, "\""));
    TensorInfo info;
    info.dtype = read_dtype(member(entry, "dtype"));
    for (const uint64_t size : read_integers(member(entry, "shape"), "shape"))
      info.shape.push_back(static_cast<int64_t>(size));
    const std::vector<uint64_t> offsets = read_integers(member(entry, "data_offsets"), "data_offsets");
    if (offsets.size() != 2) throw bad(str("data_offsets must hold two numbers, it holds ", offsets.size()));
    if (offsets[0] > offsets[1])
      throw bad(str("data_offsets run backwards: [", offsets[0], ", ", offsets[1], "]"));
    info.begin = offsets[0];
    info.end = offsets[1];
    const std::optional<std::size_t> bytes = byte_count(info.dtype, info.shape);
    if (!bytes) throw bad("shape overflows: its byte count does not fit in 64 bits");
    if (*bytes != info.end - info.begin)
      throw bad(
          str("data_offsets span ", info.end - info.begin, " bytes, but dtype and shape need ", *bytes));
    return info;
  }

  UserError bad(const std::string& why) const {
    return UserError(str(source_, ": tensor \"", name_, "\": ", why));
  }

 private:
  const Json& member(const Json& entry, const char* key) const {
    const auto found = entry.find(key);
    if (found == entry.end()) throw bad(str(key, " is missing"));
    return *found;
  }

  DType read_dtype(const Json& value) const {
    if (!value.is_string()) throw bad("dtype must be a string");
    const std::optional<DType> dtype = dtype_of(value.get<std::string>());
    if (!dtype)
      throw bad(str("dtype ", value.get<std::string>(), " is not supported; known are ", known_dtypes()));
    return *dtype;
  }

  std::vector<uint64_t> read_integers(const Json& value, const char* key) const {
    if (!value.is_array()) throw bad(str(key, " must be a list of numbers"));
    std::vector<uint64_t> numbers;
    for (const Json& number : value) {
      if (!number.is_number_unsigned() || number.get<uint64_t>() > INT64_MAX)
        throw bad(str(key, " must hold whole numbers from 0 to 2^63-1, it holds ", number.dump()));
      numbers.push_back(number.get<uint64_t>());
    }
    return numbers;
  }

  const std::string& source_;
  const std::string& name_;
};

// Every byte of the buffer belongs to just one tensor: no room for a second file inside (polyglots), no
// tensor seen through another.
void check_layout(const SafetensorsHeader& header, std::size_t data_bytes, const std::string& source) {
  std::vector<std::pair<const std::string*, const TensorInfo*>> order;
  for (const auto& [name, info] : header.tensors) order.emplace_back(&name, &info);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  std::size_t position = 0;
  for (const auto& [name, info] : order) {
    const EntryReader entry(source, *name);
    if (info->begin < position)
      throw entry.bad(
          str("overlaps the tensor before it (starts at byte ", info->begin, ", expected ", position, ")"));
    if (info->begin > position)
      throw entry.bad(
          str("leaves a hole before it (starts at byte ", info->begin, ", expected ", position, ")"));
    if (info->end > data_bytes)
      throw entry.bad(str("ends at byte ", info->end, " of the data, but the file holds only ", data_bytes,
                          "; is it truncated?"));
    position = info->end;
  }
  if (position != data_bytes)
    throw UserError(
        str(source, ": the tensors end at byte ", position, " of the data, but the file holds ", data_bytes));
}

void read_metadata(const Json& json, const std::string& source, SafetensorsHeader& header) {
  if (!json.is_object()) throw UserError(str(source, ": __metadata__ must be an object"));
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string())
      throw UserError(str(source, ": __metadata__: the value of \"", key, "\" must be a string"));
    header.metadata[key] = value.get<std::string>();
  }
}

std::string make_header(const std::vector<const TensorToWrite*>& order,
                        const std::map<std::string, std::string>& metadata) {
  Json header = {{"__metadata__", metadata}};
  header["__metadata__"]["format"] = "pt";
  std::size_t position = 0;
  for (const TensorToWrite* tensor : order) {
    const std::optional<std::size_t> bytes = byte_count(tensor->dtype, tensor->shape);
    ITHACA_CHECK(bytes && !header.contains(tensor->name), tensor->name);
    header[tensor->name] = {{"dtype", dtype_name(tensor->dtype)},
                            {"shape", tensor->shape},
                            {"data_offsets", {position, position + *bytes}}};
    position += *bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  ITHACA_CHECK(text.size() <= kMaxHeaderBytes, "header of ", text.size(), " bytes");
  return text;
}

}  // namespace

std::size_t dtype_size(DType dtype) {
  return entry_of(dtype).size;
}
const char* dtype_name(DType dtype) {
  return entry_of(dtype).name;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& source) {
  uint64_t length = 0;
  if (file.size() < sizeof(length))
    throw UserError(str(source, ": ", file.size(),
                        " bytes, too short for a safetensors file (8 bytes of header length come first)"));
  std::memcpy(&length, file.data(), sizeof(length));
  if (length > kMaxHeaderBytes)
    throw UserError(str(source, ": header length ", length, " is above the format's limit of ",
                        kMaxHeaderBytes, "; is it a safetensors file?"));
  if (length > file.size() - sizeof(length))
    throw UserError(str(source, ": header length ", length, " goes beyond the file's ", file.size(),
                        " bytes; is it truncated?"));
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + sizeof(length), length);
  if (!text.starts_with('{')) throw UserError(str(source, ": the header must start with '{'"));
  const Json json = parse_json(text, str(source, ": header"));

  SafetensorsHeader header;
  header.data_offset = sizeof(length) + length;
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__")
      read_metadata(entry, source, header);
    else
      header.tensors.emplace(name, EntryReader(source, name).read(entry));
  }
  check_layout(header, file.size() - header.data_offset, source);
  return header;
}

SafetensorsFile SafetensorsFile::open(const fs::path& path) {
  SafetensorsFile file;
  file.file_ = MappedFile::open(path);
  file.header_ =
      std::make_shared<const SafetensorsHeader>(parse_safetensors_header(file.file_->bytes(), path.string()));
  return file;
}

std::span<const std::byte> SafetensorsFile::data(const TensorInfo& tensor) const {
  return file_->bytes().subspan(header_->data_offset + tensor.begin, tensor.end - tensor.begin);
}

void write_safetensors(const fs::path& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorToWrite*> order;
  for (const TensorToWrite& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    return dtype_size(a->dtype) > dtype_size(b->dtype);
  });
  const std::string header = make_header(order, metadata);
  const uint64_t length = header.size();
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(std::as_bytes(std::span(header)));
  for (const TensorToWrite* tensor : order) {
    const std::span<const std::byte> bytes = tensor->bytes();
    ITHACA_CHECK(bytes.size() == byte_count(tensor->dtype, tensor->shape), tensor->name);
    file.write(bytes);
  }
  file.commit();
}

}  // namespace ithaca
