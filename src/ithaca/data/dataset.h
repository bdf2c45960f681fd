// A tokenised corpus as samples (rows) of at most cutoff_len tokens. Tokenised once and cached, keyed by content and tokenizer.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ithaca/data/batch.h"
#include "ithaca/text/tokenizer.h"

namespace ithaca {

struct DatasetOptions {
  std::filesystem::path file;       // .txt: one document; .jsonl: one document a line, key "text"
  int64_t cutoff_len = 2048;
  bool packing = true;
  int64_t max_samples = 0;          // 0: all; keeps the first n rows
  int64_t max_tokens = 0;           // 0: all; keeps the first n tokens of the corpus (evaluation)
  std::filesystem::path cache_dir;  // created if missing
  bool overwrite_cache = false;
};

class Dataset {
 public:
  // UserError: file missing or empty, not UTF-8, unknown ending, a .jsonl line that is no object with a string `text` (line named), vocabulary larger than the
  // model's (`vocab_size`). Several processes may open the same file at once: one tokenises, the cache appears whole (rename).
  static Dataset open(const DatasetOptions& options, const Tokenizer& tokenizer, int64_t vocab_size);

  int64_t size() const;         // rows
  int64_t num_tokens() const;   // of all rows
  int64_t num_documents() const;
  bool from_cache() const;

  // Rows `indices` as one batch; without packing padded to the longest of them, with packing to the longest as well (the last row of a corpus may be short).
  Batch batch(std::span<const int64_t> indices) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace ithaca
