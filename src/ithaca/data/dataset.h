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
#include <functional>
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
  int threads = 0;  // that tokenise; 0: one a core that this process may use (affinity, CPU quota)
  // Asked several times a second, on the thread that opens, while a text is read or tokenised and while another process
  // does; true: `open` throws Stopped and leaves nothing half done. May be empty.
  std::function<bool()> stop_requested = {};
  // Lines for the log while `open` takes long: whom it waits for, how far it is. May be empty.
  std::function<void(const std::string&)> say = {};
};

// What became of the file's documents: what is not trained on or evaluated is never left out in silence.
struct DatasetUsage {
  int64_t documents = 0;        // that max_samples and max_tokens let in (the last may be let in for a part)
  int64_t tokens = 0;           // of these documents
  int64_t tokens_left_out = 0;  // of what is behind them
  int64_t documents_cut =
      0;  // longer than cutoff_len without packing; with packing: that go on in a further row
  int64_t tokens_unused = 0;             // behind the cuts; with packing none
  int64_t documents_without_labels = 0;  // of fewer than two tokens, eos counted: nothing to predict
};

// The tokenizer as `open` uses it. UserError, saying what to do, if it has no eos, or puts bos in front
// without naming it. The encoder refers to `tokenizer`, which must outlive it.
DocumentEncoder document_encoder(const Tokenizer& tokenizer);

class Dataset {
 public:
  // UserError: file missing, no regular file or empty, not UTF-8 (byte named), unknown ending, a .jsonl line that is
  // no object with a string `text` (line named), an id outside the model's vocabulary (`vocab_size`), no eos token, no
  // document of two tokens, a cutoff_len below 2. Several processes may open the same file at once: one
  // tokenises, the others wait as long as it lives, the cache appears whole (rename). Stopped: see stop_requested.
  static Dataset open(const DatasetOptions& options, const Tokenizer& tokenizer, int64_t vocab_size);
  static Dataset open(const DatasetOptions& options, const DocumentEncoder& encoder, int64_t vocab_size);

  int64_t size() const;           // rows
  int64_t num_tokens() const;     // of all rows
  int64_t num_documents() const;  // that have a token in some row
  bool from_cache() const;
  // A line for the log when something unusual happened (a damaged cache file was made anew), else empty.
  const std::string& remark() const;
  const DatasetUsage& usage() const;
  // A line for the log: documents cut, left out or without anything to predict, and tokens not used; else empty.
  std::string usage_remark() const;
  // SHA-256 of the file's bytes, hex: the same for the same text under any name and path. What else decides the rows
  // (cutoff_len, packing, max_samples, max_tokens, the tokenizer) is not in it.
  const std::string& content_hash() const;

  // Rows `indices` as one batch, padded to the longest of them (with packing only the last row of a corpus
  // can be shorter). No indices: a batch of shape [0, 0] without tokens, for a replica that has nothing left
  // at an epoch's end. Safe from several threads at once.
  Batch batch(std::span<const int64_t> indices) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace ithaca
