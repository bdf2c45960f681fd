// The file behind open_corpus: header, token ids (int32), padding to eight bytes, document bounds (int64), all
// little-endian; mapped, not read.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/data/corpus.h"

namespace ithaca {

inline constexpr uint32_t kCacheVersion =
    2;  // raise it whenever the same content and tokenizer would give another file

// Writes the file as the documents come; of them it holds the bounds only. Appears whole under its name with
// commit(), or not at all. UserError when the disk is full or the folder cannot be written.
class CacheWriter {
 public:
  // `key`: 64 hex digits, asked for when the file is loaded.
  CacheWriter(const std::filesystem::path& path, const std::string& key);
  // Documents of `lengths[0], lengths[1], ...` ids.
  void append(std::span<const int32_t> ids, std::span<const int64_t> lengths);
  void commit(int32_t max_id);  // once, the last call

 private:
  void write(std::span<const std::byte> bytes);

  std::string key_;
  AtomicFile file_;
  Sha256 payload_hash_;
  std::vector<int64_t> bounds_{0};
};

// The header's own hash, key, sizes, bounds and the range of the ids are always checked: a file that was cut, mixed up
// or filled with zeros or noise is noticed, and no id or bound can lead out of an array. kEveryByte compares the SHA-256
// of the content too; it is for the process that has just written the file (does the disk keep what it was given?). Every
// rank of every run pays for the check, and a SHA-256 of what is several times the size of the text would be most of
// the start; a single bit that turns one valid id into another later on is left to the disk's own checksums.
enum class CacheCheck { kSizesAndRanges, kEveryByte };

// Fills `corpus` with views of the mapped file. Returns what is wrong with the file (it is not used then), or empty.
std::string load_cache(const std::filesystem::path& path, const std::string& key, CacheCheck check,
                       const Poll& poll, Corpus& corpus);

}  // namespace ithaca
