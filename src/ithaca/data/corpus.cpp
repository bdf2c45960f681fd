#include "ithaca/data/corpus.h"

#include "ithaca/base/error.h"
#include "ithaca/base/hash.h"
#include "ithaca/data/cache_lock.h"
#include "ithaca/data/corpus_cache.h"
#include "ithaca/data/document_reader.h"
#include "ithaca/data/text_hash.h"
#include "ithaca/data/tokenize_documents.h"

#include <chrono>
#include <utility>
#include <vector>

namespace fs = std::filesystem;

namespace ithaca {
namespace {

std::string cache_key(const std::string& content_hash, bool jsonl, const DocumentEncoder& encoder) {
  Sha256 hash;
  hash.update(str("ithaca tokens ", kCacheVersion, '\n', content_hash, '\n', jsonl ? "jsonl" : "txt", '\n',
                  encoder.fingerprint, '\n', encoder.bos ? str(*encoder.bos) : "none", ' ', encoder.eos));
  return hash.hex();
}

// One text file on its way to a corpus.
class Opening {
 public:
  Opening(const fs::path& file, const DocumentEncoder& encoder, const CorpusOptions& options)
      : file_(file), encoder_(encoder), options_(options), state_(FileState::of(file)), reader_(file) {}

  Corpus in_memory();
  Corpus through_cache();

 private:
  bool find(const fs::path& cached, const std::string& key, Corpus& corpus, std::string& damage) const;
  Corpus make(const fs::path& cached, const std::string& key);
  int32_t tokenize(const TakeDocuments& take);

  const fs::path& file_;
  const DocumentEncoder& encoder_;
  const CorpusOptions& options_;
  const std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  FileState state_;  // before the file was opened
  DocumentReader reader_;
  Poll poll_ = [this] { options_.host.poll(file_.string() + " is read"); };
};

int32_t Opening::tokenize(const TakeDocuments& take) {
  const int32_t max_id = tokenize_documents(reader_, file_.string(), encoder_, options_, take);
  // The file is mapped: what was hashed and what was tokenised might differ
  if (!(FileState::of(file_) == state_))
    throw UserError(file_.string() + ": changed while it was tokenised; start again when it is complete");
  return max_id;
}

Corpus Opening::in_memory() {
  struct Memory {
    std::vector<int32_t> ids;
    std::vector<int64_t> bounds{0};
  };
  const auto memory = std::make_shared<Memory>();
  Corpus corpus;
  corpus.content_hash = reader_.content_hash(poll_);
  corpus.max_id = tokenize([&](std::span<const int32_t> ids, std::span<const int64_t> lengths) {
    memory->ids.insert(memory->ids.end(), ids.begin(), ids.end());
    for (const int64_t length : lengths) memory->bounds.push_back(memory->bounds.back() + length);
  });
  corpus.ids = memory->ids;
  corpus.bounds = memory->bounds;
  corpus.owner = memory;
  return corpus;
}

bool Opening::find(const fs::path& cached, const std::string& key, Corpus& corpus,
                   std::string& damage) const {
  std::error_code error;
  if (!fs::exists(cached, error)) return false;
  // What another rank has remade while this one waited is as new as can be
  if (options_.overwrite &&
      fs::last_write_time(cached, error) < fs::file_time_type::clock::from_sys(started_))
    return false;
  damage = load_cache(cached, key, CacheCheck::kSizesAndRanges, poll_, corpus);
  return damage.empty();
}

Corpus Opening::make(const fs::path& cached, const std::string& key) {
  {
    CacheWriter writer(cached, key);
    const int32_t max_id = tokenize(
        [&](std::span<const int32_t> ids, std::span<const int64_t> lengths) { writer.append(ids, lengths); });
    writer.commit(max_id);
  }
  Corpus corpus;
  const std::string damage = load_cache(cached, key, CacheCheck::kEveryByte, poll_, corpus);
  if (!damage.empty())
    throw UserError(str(cached.string(), ": just written, and ", damage, "; set cache_dir to another disk"));
  corpus.from_cache = false;
  return corpus;
}

Corpus Opening::through_cache() {
  std::error_code error;
  fs::create_directories(options_.cache_dir, error);
  if (error)
    throw UserError(str(options_.cache_dir.string(), ": cannot make the cache folder (", error.message(),
                        "); set cache_dir to another"));
  const int64_t not_before =
      options_.overwrite
          ? std::chrono::duration_cast<std::chrono::nanoseconds>(started_.time_since_epoch()).count()
          : 0;
  const std::string content_hash =
      hash_of_text(file_, reader_, state_, options_.cache_dir, not_before, options_.host);
  const std::string key = cache_key(content_hash, reader_.is_jsonl(), encoder_);
  const fs::path cached = options_.cache_dir / str("tokens-", key.substr(0, 32), ".bin");
  Corpus corpus;
  std::string damage;
  if (!find(cached, key, corpus, damage)) {  // the usual case waits for nobody
    const CacheLock lock(fs::path(cached).replace_extension(".lock"), file_.string() + " is tokenised",
                         options_.host);
    if (!find(cached, key, corpus, damage)) {
      lock.remove_leftovers(cached);
      corpus = make(cached, key);
      if (!damage.empty()) corpus.remark = str(cached.string(), ": ", damage, "; tokenised anew");
    }
  }
  corpus.content_hash = content_hash;
  return corpus;
}

}  // namespace

Corpus open_corpus(const fs::path& file, const DocumentEncoder& encoder, const CorpusOptions& options) {
  Opening opening(file, encoder, options);
  return options.cache_dir.empty() ? opening.in_memory() : opening.through_cache();
}

}  // namespace ithaca
