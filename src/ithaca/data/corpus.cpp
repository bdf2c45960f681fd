#include "ithaca/data/corpus.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
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
constexpr std::chrono::milliseconds kPollInterval{20};

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

// One process (or thread) at a time for one cache file. The kernel drops an flock with its owner, so there are no
// stale locks, and the wait has an end. Where a file system has no locks, everybody tokenises and the last rename wins:
// slower, as right.
class FileLock {
 public:
  FileLock(const fs::path& path, const fs::path& for_file, double seconds)
      : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (fd_ < 0)
      throw UserError(str(path.string(), ": the cache folder cannot be written (", std::strerror(errno),
                          "); set cache_dir to another"));
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR)) {
      if (std::chrono::steady_clock::now() >= end) {
        ::close(fd_);
        throw UserError(str(for_file.string(), ": another process has been tokenising it for more than ",
                            seconds, " s (it holds ", path.string(),
                            "); wait for it, end it, or set cache_dir to another"));
      }
      std::this_thread::sleep_for(kPollInterval);
    }
  }
  ~FileLock() { ::close(fd_); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_;
};

Corpus in_memory(TokenizedDocuments&& documents) {
  const auto owner = std::make_shared<const TokenizedDocuments>(std::move(documents));
  return {owner, owner->ids, owner->bounds, owner->max_id, false, ""};
}

}  // namespace

Corpus open_corpus(const fs::path& file, const DocumentEncoder& encoder, const CacheOptions& cache) {
  const auto opened = fs::file_time_type::clock::now();
  DocumentReader reader(file);
  if (cache.cache_dir.empty()) return in_memory(tokenize(reader, file, encoder));

  std::error_code error;
  fs::create_directories(cache.cache_dir, error);
  if (error)
    throw UserError(str(cache.cache_dir.string(), ": cannot make the cache folder (", error.message(),
                        "); set cache_dir to another"));
  const std::string key = cache_key(reader, encoder);
  const fs::path cached = cache.cache_dir / str("tokens-", key.substr(0, 32), ".bin");
  Corpus corpus;
  std::string remark;
  const auto found = [&] {
    // What another rank has remade while this one waited is as new as can be
    if (!fs::exists(cached) || (cache.overwrite && fs::last_write_time(cached) < opened)) return false;
    const std::string damage = load_cache(cached, key, CacheCheck::kSizesAndRanges, corpus);
    if (!damage.empty()) remark = str(cached.string(), ": ", damage, "; tokenised anew");
    return damage.empty();
  };
  if (found()) return corpus;  // the usual case waits for nobody
  const FileLock lock(fs::path(cached).replace_extension(".lock"), file, cache.lock_timeout);
  if (found()) return corpus;
  write_cache(cached, key, tokenize(reader, file, encoder));
  const std::string damage = load_cache(cached, key, CacheCheck::kEveryByte, corpus);
  if (!damage.empty())
    throw UserError(str(cached.string(), ": just written, and ", damage, "; set cache_dir to another disk"));
  corpus.from_cache = false;
  corpus.remark = remark;
  return corpus;
}

}  // namespace ithaca
