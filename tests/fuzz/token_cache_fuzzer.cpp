// Any bytes as a cache file of tokens, with a header whose own hash is right where the first byte says so: it is
// refused in words, or its ids and bounds lie inside the file and inside their ranges.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/base/hash.h"
#include "ithaca/data/corpus_cache.h"

namespace {

using namespace ithaca;

constexpr std::size_t kVersionAt = 8, kKeyAt = 32, kPayloadHashAt = 96, kHeaderHashAt = 160, kHeader = 224;

std::string file_name() {
  const std::filesystem::path shm = "/dev/shm";
  const auto folder = std::filesystem::exists(shm) ? shm : std::filesystem::temp_directory_path();
  return folder / str("ithaca-fuzz-", ::getpid(), ".bin");
}

std::string hash_of(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

// What only somebody who means harm would get right: magic, version, key and both hashes.
void seal(std::string& file, const std::string& key) {
  if (file.size() < kHeader) return;
  file.replace(0, kVersionAt, "ITHACATK");
  std::memcpy(file.data() + kVersionAt, &kCacheVersion, sizeof kCacheVersion);
  file.replace(kKeyAt, 64, key);
  file.replace(kPayloadHashAt, 64, hash_of(std::string_view(file).substr(kHeader)));
  file.replace(kHeaderHashAt, 64, hash_of(std::string_view(file).substr(0, kHeaderHashAt)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string key(64, 'a');
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 8 != 0) seal(bytes, key);
  const std::string file = file_name();
  std::ofstream(file, std::ios::binary) << bytes;
  Corpus corpus;
  const CacheCheck check = data[0] % 2 == 0 ? CacheCheck::kSizesAndRanges : CacheCheck::kEveryByte;
  if (load_cache(
          file, key, check, [] {}, corpus)
          .empty()) {
    ITHACA_CHECK(corpus.bounds.front() == 0);
    ITHACA_CHECK(corpus.bounds.back() == static_cast<int64_t>(corpus.ids.size()));
    for (std::size_t d = 0; d + 1 < corpus.bounds.size(); ++d)
      ITHACA_CHECK(corpus.bounds[d] <= corpus.bounds[d + 1]);
    for (const int32_t id : corpus.ids) ITHACA_CHECK(id >= 0 && id <= corpus.max_id);
  }
  std::filesystem::remove(file);
  return 0;
}
