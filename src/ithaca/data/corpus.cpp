#include "ithaca/data/corpus.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <thread>

#include "ithaca/base/error.h"
#include "ithaca/base/hash.h"
#include "ithaca/data/corpus_cache.h"
#include "ithaca/data/document_reader.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr std::size_t kDocumentsAtOnce = 4096;
constexpr std::size_t kBytesAtOnce = std::size_t{64} << 20;

// fn(0) ... fn(n - 1) on up to one thread a core, at least two. Of several errors the one with the lowest
// index is thrown, so that the message does not depend on timing.
void parallel_for(std::size_t n, const std::function<void(std::size_t)>& fn) {
  std::vector<std::exception_ptr> errors(n);
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < n; i = next++) {
      try {
        fn(i);
      } catch (...) {
        errors[i] = std::current_exception();
        next = n;
      }
    }
  };
  const std::size_t cores = std::max(2u, std::thread::hardware_concurrency());
  {
    std::vector<std::jthread> helpers;
    for (std::size_t t = 1; t < std::min(cores, n); ++t) helpers.emplace_back(work);
    work();
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

std::vector<int32_t> encode_document(std::string_view text, const DocumentEncoder& encoder) {
  std::vector<int32_t> ids = encoder.encode(text);
  if (encoder.bos) ids.insert(ids.begin(), *encoder.bos);
  ids.push_back(encoder.eos);
  return ids;
}

TokenizedDocuments tokenize(DocumentReader& reader, const fs::path& file, const DocumentEncoder& encoder) {
  TokenizedDocuments all;
  for (;;) {
    const auto sources = reader.next(kDocumentsAtOnce, kBytesAtOnce);
    if (sources.empty()) break;
    std::vector<std::vector<int32_t>> encoded(sources.size());
    parallel_for(sources.size(), [&](std::size_t i) {
      reader.read(sources[i], [&](std::string_view text) { encoded[i] = encode_document(text, encoder); });
    });
    for (const std::vector<int32_t>& ids : encoded) {
      all.ids.insert(all.ids.end(), ids.begin(), ids.end());
      all.bounds.push_back(static_cast<int64_t>(all.ids.size()));
    }
  }
  if (all.bounds.size() == 1) throw UserError(str(file.string(), ": holds no document, only blank lines"));
  const auto [low, high] = std::minmax_element(all.ids.begin(), all.ids.end());
  if (*low < 0) throw UserError(str(file.string(), ": the tokenizer gives the negative id ", *low));
  all.max_id = *high;
  return all;
}

std::string cache_key(const DocumentReader& reader, const DocumentEncoder& encoder) {
  Sha256 hash;
  hash.update(str("ithaca tokens ", kCacheVersion, '\n', reader.content_hash(), '\n',
                  reader.is_jsonl() ? "jsonl" : "txt", '\n', encoder.fingerprint, '\n',
                  encoder.bos ? str(*encoder.bos) : "none", ' ', encoder.eos));
  return hash.hex();
}

// One process (or thread) at a time in a cache folder. The kernel drops an flock with its owner, so there are
// no stale locks. Where a file system has none, everybody tokenises and the last rename wins: slower, as
// right.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder)
      : fd_(::open((folder / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (fd_ < 0)
      throw UserError(str(folder.string(), ": the cache folder cannot be written (", std::strerror(errno),
                          "); set cache_dir to another"));
    while (::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

Corpus in_memory(TokenizedDocuments&& documents) {
  const auto owner = std::make_shared<const TokenizedDocuments>(std::move(documents));
  return {owner, owner->ids, owner->bounds, owner->max_id, false, ""};
}

}  // namespace

Corpus open_corpus(const fs::path& file, const DocumentEncoder& encoder, const fs::path& cache_dir,
                   bool overwrite_cache) {
  const auto opened = fs::file_time_type::clock::now();
  DocumentReader reader(file);
  if (cache_dir.empty()) return in_memory(tokenize(reader, file, encoder));

  std::error_code error;
  fs::create_directories(cache_dir, error);
  if (error)
    throw UserError(str(cache_dir.string(), ": cannot make the cache folder (", error.message(),
                        "); set cache_dir to another"));
  const std::string key = cache_key(reader, encoder);
  const fs::path cached = cache_dir / str("tokens-", key.substr(0, 32), ".bin");
  const FolderLock lock(cache_dir);

  std::string remark;
  if (fs::exists(cached)) {
    // What another rank has remade while this one waited is as new as can be
    if (!overwrite_cache || fs::last_write_time(cached) >= opened) {
      Corpus corpus;
      const std::string damage = load_cache(cached, key, corpus);
      if (damage.empty()) return corpus;
      remark = str(cached.string(), ": ", damage, "; tokenised anew");
    }
  }
  write_cache(cached, key, tokenize(reader, file, encoder));
  Corpus corpus;
  const std::string damage = load_cache(cached, key, corpus);
  if (!damage.empty())
    throw UserError(str(cached.string(), ": just written, and ", damage, "; set cache_dir to another disk"));
  corpus.from_cache = false;
  corpus.remark = remark;
  return corpus;
}

}  // namespace ithaca
