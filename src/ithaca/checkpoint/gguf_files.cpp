#include "ithaca/checkpoint/gguf_files.h"

#include <array>
#include <cstdio>
#include <set>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/gguf_metadata.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

struct Split {
  int64_t number = 0, count = 1;  // from 0
};

constexpr int64_t kMaxParts = 65535;

Split read_split(const GgufHeader& header, const std::string& source) {
  const GgufMetadata metadata(header, source);
  Split split;
  split.count = metadata.integer("split.count", 0, kMaxParts).value_or(1);
  if (split.count <= 1) return {};
  split.number = metadata.required_integer("split.no", 0, split.count - 1);
  return split;
}

std::string suffix(int64_t number, int64_t count) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "-%05lld-of-%05lld.gguf", static_cast<long long>(number + 1),
                static_cast<long long>(count));
  return text.data();
}

// All parts' paths, from the one that was named.
std::vector<fs::path> part_paths(const fs::path& path, const Split& split) {
  const std::string name = path.filename().string(), own = suffix(split.number, split.count);
  const auto refuse = [&](const std::string& why) {
    return UserError(
        str(path.string(), ": is part ", split.number + 1, " of ", split.count, " of a split file, ", why,
            ". Put all parts into one folder under the names that gguf-split gave them, or join them: ",
            "llama-gguf-split --merge FIRST_PART.gguf JOINED.gguf"));
  };
  if (!name.ends_with(own)) throw refuse(str("and its name does not end in ", own));
  const std::string prefix = name.substr(0, name.size() - own.size());
  std::vector<fs::path> paths;
  for (int64_t number = 0; number < split.count; ++number) {
    paths.push_back(path.parent_path() / (prefix + suffix(number, split.count)));
    std::error_code error;
    if (!fs::exists(paths.back(), error))
      throw refuse(str("and part ", number + 1, ", ", paths.back().string(), ", is not there"));
  }
  return paths;
}

void check_part(const GgufHeader& header, const fs::path& path, const Split& expected) {
  const Split found = read_split(header, path.string());
  if (found.count != expected.count || found.number != expected.number)
    throw UserError(str(path.string(), ": says that it is part ", found.number + 1, " of ", found.count,
                        ", expected part ", expected.number + 1, " of ", expected.count));
}

}  // namespace

GgufFiles open_gguf(const fs::path& path) {
  GgufFiles files;
  files.source = path.string();
  const std::shared_ptr<const MappedFile> named = MappedFile::open(path);
  GgufHeader header = parse_gguf(named->bytes(), files.source);
  const Split split = read_split(header, files.source);
  if (split.count <= 1) {
    files.parts = {named->bytes()};
    files.maps = {named};
    files.header = std::move(header);
    return files;
  }
  std::set<std::string> names;
  const std::vector<fs::path> paths = part_paths(path, split);
  for (int64_t number = 0; number < split.count; ++number) {
    const fs::path& part = paths[static_cast<std::size_t>(number)];
    files.maps.push_back(MappedFile::open(part));
    files.parts.push_back(files.maps.back()->bytes());
    GgufHeader own = parse_gguf(files.parts.back(), part.string());
    check_part(own, part, {number, split.count});
    for (GgufTensor& tensor : own.tensors) {
      if (!names.insert(tensor.name).second)
        throw UserError(str(part.string(), ": tensor ", tensor.name, " is in another part as well"));
      tensor.part = static_cast<std::size_t>(number);
      files.header.tensors.push_back(std::move(tensor));
    }
    if (number == 0) files.header.metadata = std::move(own.metadata);
  }
  const auto tensors = static_cast<int64_t>(files.header.tensors.size());
  const GgufMetadata metadata(files.header, paths.front().string());
  if (metadata.integer("split.tensors.count", 0, INT32_MAX).value_or(tensors) != tensors)
    throw metadata.bad("split.tensors.count", str("differs from the ", tensors, " tensors of all parts"));
  return files;
}

}  // namespace ithaca
