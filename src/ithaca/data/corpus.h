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

#include "ithaca/data/host.h"

namespace ithaca {

// What the corpus needs of a tokenizer.
struct DocumentEncoder {
  // Appends a document's ids, without special tokens. Called from several threads at once. Calls `poll` every now and
  // then, at least every 0.2 s, and lets through what it throws.
  std::function<void(std::string_view text, const Poll& poll, std::vector<int32_t>& ids)> encode;
  std::optional<int32_t> bos;  // put in front of each document where set
  int32_t eos = 0;             // appended to each document
  std::string fingerprint;     // changes whenever an id could change
};

struct Corpus {
  std::shared_ptr<const void>
      owner;  // of the two views: the mapped cache file, or memory where there is no cache
  std::span<const int32_t> ids;
  std::span<const int64_t> bounds;  // document d is ids [bounds[d], bounds[d + 1]); bounds[0] = 0
  int32_t max_id = 0;
  std::string content_hash;  // SHA-256 of the text file's bytes, hex
  bool from_cache = false;
  std::string remark;  // for the log: a damaged cache file was made anew, and why; else empty
};

struct CorpusOptions {
  std::filesystem::path cache_dir;  // created if missing; empty: no cache
  bool overwrite = false;
  int threads = 0;  // that tokenise; 0: one a core that this process may use (affinity, CPU quota)
  Host host = {};
};

// Reads `file` and tokenises it on all cores (each document whole, by one thread: where a text may be cut
// without changing its ids only the tokenizer could tell). Of the processes that open the same file at once the first
// one tokenises, and streams the ids into the cache file; the others wait, as long as it lives, and find its work. All
// of them end up with a mapping of that file. Other files do not wait for it. Afterwards, and after Stopped or an
// error, the cache folder holds whole files only.
// UserError as in document_reader.h, for negative ids, for a file that changes meanwhile and when the cache folder
// cannot be written. Stopped as soon as options.host asks for it.
Corpus open_corpus(const std::filesystem::path& file, const DocumentEncoder& encoder,
                   const CorpusOptions& options);

}  // namespace ithaca
