// A file's documents as token ids, tokenised once and kept in a cache folder under a name made from content
// and tokenizer.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ithaca {

// What the corpus needs of a tokenizer.
struct DocumentEncoder {
  std::function<std::vector<int32_t>(std::string_view)>
      encode;                  // no special tokens; called from several threads at once
  std::optional<int32_t> bos;  // put in front of each document where set
  int32_t eos = 0;             // appended to each document
  std::string fingerprint;     // changes whenever an id could change
};

struct Corpus {
  std::shared_ptr<const void> owner;  // of the two views
  std::span<const int32_t> ids;
  std::span<const int64_t> bounds;  // document d is ids [bounds[d], bounds[d + 1]); bounds[0] = 0
  int32_t max_id = 0;
  bool from_cache = false;
  std::string remark;  // for the log: a damaged cache file was made anew, and why; else empty
};

struct CacheOptions {
  std::filesystem::path cache_dir;  // created if missing; empty: no cache
  bool overwrite = false;
  double lock_timeout = 1800;  // seconds
};

// Reads `file` and tokenises it on all cores (each document whole, by one thread: where a text may be cut
// without changing its ids only the tokenizer could tell). Of the processes that open the same file at once the first
// one tokenises and the others find its work; other files do not wait for it. UserError as in document_reader.h, for
// negative ids, when the cache folder cannot be written, and when another process tokenises for longer than
// lock_timeout.
Corpus open_corpus(const std::filesystem::path& file, const DocumentEncoder& encoder,
                   const CacheOptions& cache);

}  // namespace ithaca
