// A tokenised corpus as samples (rows) of at most cutoff_len tokens. Tokenised once and cached, keyed by
// content and tokenizer.
//
// packing: the documents, each ended by eos, are laid one after another and the whole is cut every cutoff_len
// tokens: row r is tokens [r * cutoff_len, (r + 1) * cutoff_len) of the corpus, the last row may be short.
// What lies beyond a row's end goes on in the next row as a document of its own. Without packing: a document
// a row, cut at cutoff_len.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "ithaca/data/batch.h"
#include "ithaca/data/corpus.h"
#include "ithaca/text/tokenizer.h"

namespace ithaca {

struct DatasetOptions {
  std::filesystem::path file;  // .txt: one document; .jsonl: one document a line, key "text"
  int64_t cutoff_len = 2048;   // at least 2: one token has nothing to predict
  bool packing = true;
  int64_t max_samples = 0;          // 0: all; keeps the first n documents of the file, before packing
  int64_t max_tokens = 0;           // 0: all; keeps the first n tokens of the corpus (evaluation)
  std::filesystem::path cache_dir;  // created if missing; empty: no cache
  bool overwrite_cache = false;
  double lock_timeout = 1800;  // seconds to wait for another process that tokenises the same file
};

// The tokenizer as `open` uses it. UserError, saying what to do, if it has no eos, or puts bos in front
// without naming it. The encoder refers to `tokenizer`, which must outlive it.
DocumentEncoder document_encoder(const Tokenizer& tokenizer);

class Dataset {
 public:
  // UserError: file missing or empty, not UTF-8 (byte named), unknown ending, a .jsonl line that is no object
  // with a string `text` (line named), an id outside the model's vocabulary (`vocab_size`), no eos token, no
  // document of two tokens, a cutoff_len below 2. Several processes may open the same file at once: one
  // tokenises, the cache appears whole (rename).
  static Dataset open(const DatasetOptions& options, const Tokenizer& tokenizer, int64_t vocab_size);
  static Dataset open(const DatasetOptions& options, const DocumentEncoder& encoder, int64_t vocab_size);

  int64_t size() const;           // rows
  int64_t num_tokens() const;     // of all rows
  int64_t num_documents() const;  // that have a token in some row
  bool from_cache() const;
  // A line for the log when something unusual happened (a damaged cache file was made anew), else empty.
  const std::string& remark() const;

  // Rows `indices` as one batch, padded to the longest of them (with packing only the last row of a corpus
  // can be shorter). No indices: a batch of shape [0, 0] without tokens, for a replica that has nothing left
  // at an epoch's end. Safe from several threads at once.
  Batch batch(std::span<const int64_t> indices) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace ithaca
