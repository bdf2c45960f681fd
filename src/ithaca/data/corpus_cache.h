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

// Fills `corpus` with views of the mapped file. Returns what is wrong with the file (it is not used then),
// empty when sizes, hashes, key and bounds are right.
std::string load_cache(const std::filesystem::path& path, const std::string& key, Corpus& corpus);

}  // namespace ithaca
