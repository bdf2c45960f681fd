// The file behind open_corpus: header, document bounds (int64), token ids (int32), all little-endian; mapped,
// not read.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ithaca/data/corpus.h"

namespace ithaca {

inline constexpr uint32_t kCacheVersion =
    1;  // raise it whenever the same content and tokenizer would give another file

struct TokenizedDocuments {
  std::vector<int32_t> ids;
  std::vector<int64_t> bounds{0};
  int32_t max_id = 0;
};

// Appears whole under its name or not at all. UserError when the disk is full or the folder cannot be
// written.
void write_cache(const std::filesystem::path& path, const std::string& key,
                 const TokenizedDocuments& documents);

// The header's own hash, key, sizes, bounds and the range of the ids are always checked: a file that was cut, mixed up
// or filled with zeros or noise is noticed, and no id or bound can lead out of an array. kEveryByte compares the SHA-256
// of the content too; it is for the process that has just written the file (does the disk keep what it was given?). Every
// rank of every run pays for the check, and a SHA-256 of what is several times the size of the text would be most of
// the start; a single bit that turns one valid id into another later on is left to the disk's own checksums.
enum class CacheCheck { kSizesAndRanges, kEveryByte };

// Fills `corpus` with views of the mapped file. Returns what is wrong with the file (it is not used then), or empty.
std::string load_cache(const std::filesystem::path& path, const std::string& key, CacheCheck check,
                       Corpus& corpus);

}  // namespace ithaca
