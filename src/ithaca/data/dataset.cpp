// Shape letters: B rows of the batch, T tokens of its longest row.
#include "ithaca/data/dataset.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "ithaca/base/error.h"

namespace ithaca {

struct Dataset::Impl {
  std::string file;
  Corpus corpus;
  int64_t cutoff_len = 0;
  bool packing = true;
  int64_t corpus_tokens = 0;  // after max_samples and max_tokens
  int64_t rows = 0;
  int64_t tokens = 0;
  DatasetUsage usage;

  // Documents end at the corpus's end, wherever max_samples and max_tokens put it.
  int64_t bound(int64_t document) const {
    return std::min(corpus.bounds[static_cast<std::size_t>(document)], corpus_tokens);
  }

  struct Row {
    int64_t begin = 0;            // of the row in the corpus
    std::vector<int64_t> bounds;  // cu_seqlens inside the row
    int64_t length() const { return bounds.back(); }
  };

  Row row(int64_t index) const {
    ITHACA_CHECK(index >= 0 && index < rows, "row ", index, " of ", rows);
    if (!packing) return {bound(index), {0, std::min(cutoff_len, bound(index + 1) - bound(index))}};
    Row row{index * cutoff_len, {0}};
    const int64_t end = std::min(row.begin + cutoff_len, corpus_tokens);
    const auto first = std::upper_bound(corpus.bounds.begin(), corpus.bounds.end(), row.begin);
    for (auto b = first; b != corpus.bounds.end() && *b < end; ++b) row.bounds.push_back(*b - row.begin);
    row.bounds.push_back(end - row.begin);
    return row;
  }

  int64_t count_documents() const {
    const auto starts = corpus.bounds.first(corpus.bounds.size() - 1);
    return std::lower_bound(starts.begin(), starts.end(), corpus_tokens) - starts.begin();
  }

  void count_rows(const DatasetOptions& options) {
    corpus_tokens = static_cast<int64_t>(corpus.ids.size());
    if (options.max_samples > 0 && options.max_samples < static_cast<int64_t>(corpus.bounds.size()))
      corpus_tokens = corpus.bounds[static_cast<std::size_t>(options.max_samples)];
    if (options.max_tokens > 0) corpus_tokens = std::min(corpus_tokens, options.max_tokens);
    usage.documents = count_documents();
    usage.tokens_left_out = static_cast<int64_t>(corpus.ids.size()) - corpus_tokens;
    usage.tokens = corpus_tokens;
    for (int64_t d = 0; d < usage.documents; ++d) count_document(bound(d), bound(d + 1));
    rows = packing ? (corpus_tokens + cutoff_len - 1) / cutoff_len : usage.documents;
    tokens = usage.tokens - usage.tokens_unused;
  }

  void count_document(int64_t begin, int64_t end) {
    usage.documents_without_labels += end - begin < 2;
    if (packing) {
      usage.documents_cut += end > begin && begin / cutoff_len != (end - 1) / cutoff_len;
    } else if (end - begin > cutoff_len) {
      ++usage.documents_cut;
      usage.tokens_unused += end - begin - cutoff_len;
    }
  }

  bool any_label() const { return usage.documents_without_labels < usage.documents; }

  // Writes one row: ids, shifted labels and positions; returns the number of labels.
  int64_t fill(const Row& row, int64_t* ids, int64_t* labels, int64_t* positions) const {
    const int32_t* source = corpus.ids.data() + row.begin;
    int64_t num_labels = 0;
    for (std::size_t d = 0; d + 1 < row.bounds.size(); ++d) {
      const int64_t begin = row.bounds[d], end = row.bounds[d + 1];
      for (int64_t t = begin; t < end; ++t) {
        ids[t] = source[t];
        positions[t] = t - begin;
        if (t + 1 < end) labels[t] = source[t + 1];
      }
      num_labels += end - begin - 1;
    }
    return num_labels;
  }
};

namespace {

void check_options(const DatasetOptions& options) {
  Problems problems;
  if (options.cutoff_len < 2)
    problems.add(
        str("cutoff_len is ", options.cutoff_len, "; expected at least 2, a token and the one it predicts"));
  if (options.max_samples < 0)
    problems.add(str("max_samples is ", options.max_samples, "; expected 0 (all) or more"));
  if (options.max_tokens < 0)
    problems.add(str("max_tokens is ", options.max_tokens, "; expected 0 (all) or more"));
  problems.throw_if_any(str(options.file.string(), ": cannot be made into samples:"));
}

std::string counted(int64_t documents) {
  return str(documents, documents == 1 ? " document" : " documents");
}

}  // namespace

Dataset Dataset::open(const DatasetOptions& options, const DocumentEncoder& encoder, int64_t vocab_size) {
  check_options(options);
  const auto impl = std::make_shared<Impl>();
  impl->file = options.file.string();
  impl->corpus = open_corpus(options.file, encoder,
                             {.cache_dir = options.cache_dir,
                              .overwrite = options.overwrite_cache,
                              .threads = options.threads,
                              .host = {.stop_requested = options.stop_requested, .say = options.say}});
  if (impl->corpus.max_id >= vocab_size)
    throw UserError(str(options.file.string(), ": the tokenizer gives the id ", impl->corpus.max_id,
                        ", but the model's vocabulary has only ", vocab_size,
                        " entries (config.json: vocab_size); use the tokenizer that belongs to the model"));
  impl->cutoff_len = options.cutoff_len;
  impl->packing = options.packing;
  impl->count_rows(options);
  if (!impl->any_label())
    throw UserError(str(options.file.string(), ": every document is empty; there is no token to predict"));
  Dataset dataset;
  dataset.impl_ = impl;
  return dataset;
}

int64_t Dataset::size() const {
  return impl_->rows;
}
int64_t Dataset::num_tokens() const {
  return impl_->tokens;
}
int64_t Dataset::num_documents() const {
  return impl_->usage.documents;
}
bool Dataset::from_cache() const {
  return impl_->corpus.from_cache;
}
const std::string& Dataset::remark() const {
  return impl_->corpus.remark;
}

const DatasetUsage& Dataset::usage() const {
  return impl_->usage;
}
const std::string& Dataset::content_hash() const {
  return impl_->corpus.content_hash;
}

std::string Dataset::usage_remark() const {
  const DatasetUsage& usage = impl_->usage;
  const int64_t cut = usage.documents_cut, all = usage.documents;
  std::vector<std::string> parts;
  if (usage.tokens_left_out > 0)
    parts.push_back(str("the first ", counted(all), " and ", usage.tokens, " of ",
                        usage.tokens + usage.tokens_left_out,
                        " tokens are taken, as max_samples or max_eval_tokens asks"));
  if (cut > 0 && !impl_->packing)
    parts.push_back(str(counted(cut), cut == 1 ? " was" : " were", " cut and ", usage.tokens_unused, " of ",
                        usage.tokens, " tokens are not used (cutoff_len ", impl_->cutoff_len,
                        " without packing)"));
  if (cut > 0 && impl_->packing)
    parts.push_back(str(cut, " of ", counted(all), cut == 1 ? " goes" : " go",
                        " on in a further row of cutoff_len ", impl_->cutoff_len,
                        ", as a document of its own; all ", usage.tokens, " tokens are used"));
  if (usage.documents_without_labels > 0)
    parts.push_back(str(counted(usage.documents_without_labels), " of fewer than two tokens ",
                        usage.documents_without_labels == 1 ? "has" : "have", " nothing to predict"));
  std::string line;
  for (const std::string& part : parts) line += (line.empty() ? impl_->file + ": " : "; ") + part;
  return line;
}

Batch Dataset::batch(std::span<const int64_t> indices) const {
  std::vector<Impl::Row> rows;
  int64_t longest = 0;
  for (const int64_t index : indices) {
    rows.push_back(impl_->row(index));
    longest = std::max(longest, rows.back().length());
  }
  const std::array<int64_t, 2> shape{static_cast<int64_t>(rows.size()), longest};
  Batch batch;
  batch.input_ids = at::zeros(shape, at::kLong);
  batch.labels = at::full(shape, kNoLabel, at::kLong);
  batch.position_ids = at::zeros(shape, at::kLong);
  auto* ids = batch.input_ids.mutable_data_ptr<int64_t>();
  auto* labels = batch.labels.mutable_data_ptr<int64_t>();
  auto* positions = batch.position_ids.mutable_data_ptr<int64_t>();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const int64_t at = static_cast<int64_t>(r) * longest;
    batch.num_labels += impl_->fill(rows[r], ids + at, labels + at, positions + at);
    batch.num_tokens += rows[r].length();
    batch.documents.push_back(std::move(rows[r].bounds));
  }
  return batch;
}

}  // namespace ithaca
