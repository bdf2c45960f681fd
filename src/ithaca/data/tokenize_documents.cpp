#include "ithaca/data/tokenize_documents.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/base/limits.h"

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;
using Sources = std::vector<DocumentReader::Source>;
constexpr std::size_t kDocumentsAtOnce = 4096;
constexpr std::size_t kBytesAtOnce = std::size_t{256} << 10;
constexpr std::size_t kPartsAhead = 4;  // a thread
constexpr std::chrono::milliseconds kPollInterval{50};
constexpr std::chrono::seconds kFirstRemark{10}, kNextRemarks{60};

struct Part {
  std::vector<int32_t> ids;
  std::vector<int64_t> lengths;
  int32_t min_id = 0, max_id = 0;
  std::size_t read_up_to = 0;  // bytes of the file
  std::exception_ptr error;
};

// Threads that take the next part of the file, encode it and put it down; one consumer that gets the parts in order.
class Workers {
 public:
  Workers(DocumentReader& reader, const DocumentEncoder& encoder, std::size_t threads)
      : reader_(reader), encoder_(encoder), ahead_(kPartsAhead * threads), running_(threads) {
    for (std::size_t t = 0; t < threads; ++t) threads_.emplace_back([this] { work(); });
  }
  ~Workers() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    room_.notify_all();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  bool done() {
    const std::lock_guard lock(mutex_);
    return running_ == 0 && parts_.empty();
  }

  // Waits a moment for the next part: true if it came. Throws the error of a part when its turn comes.
  bool next(Part& part) {
    {
      std::unique_lock lock(mutex_);
      put_down_.wait_for(lock, kPollInterval, [&] { return parts_.contains(delivered_) || running_ == 0; });
      auto found = parts_.extract(delivered_);
      if (found.empty()) return false;
      part = std::move(found.mapped());
      ++delivered_;
    }
    room_.notify_all();
    if (part.error) std::rethrow_exception(part.error);
    return true;
  }

 private:
  void work() {
    for (;;) {
      Part part;
      std::size_t index = 0;
      const Sources sources = take(index, part);
      if (sources.empty()) return;
      try {
        encode(sources, part);
      } catch (...) {
        part.error = std::current_exception();
      }
      put_down(index, std::move(part));
    }
  }

  // Empty at the end of the file, and once there is no point in going on; the thread ends then.
  Sources take(std::size_t& index, Part& part) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return stopped_ || failed_ || taken_ < delivered_ + ahead_; });
    Sources sources;
    if (!stopped_ && !failed_) sources = reader_.next(kDocumentsAtOnce, kBytesAtOnce);
    index = taken_++;
    part.read_up_to = reader_.position();
    if (sources.empty()) {
      --running_;
      put_down_.notify_one();
    }
    return sources;
  }

  void put_down(std::size_t index, Part&& part) {
    {
      const std::lock_guard lock(mutex_);
      failed_ = failed_ || part.error;
      parts_.emplace(index, std::move(part));
    }
    put_down_.notify_one();
  }

  void encode(const Sources& sources, Part& part) const {
    const Poll poll = [this] {
      if (stopped_) throw Stopped("the consumer has gone");
    };
    for (const DocumentReader::Source& source : sources) {
      const std::size_t before = part.ids.size();
      const auto append = [&](std::string_view text) {
        if (encoder_.bos) part.ids.push_back(*encoder_.bos);
        encoder_.encode(text, poll, part.ids);
        part.ids.push_back(encoder_.eos);
      };
      reader_.read(source, append, poll);
      part.lengths.push_back(static_cast<int64_t>(part.ids.size() - before));
      poll();
    }
    const auto [low, high] = std::minmax_element(part.ids.begin(), part.ids.end());
    part.min_id = *low;
    part.max_id = *high;
  }

  DocumentReader& reader_;  // next() under the mutex
  const DocumentEncoder& encoder_;
  const std::size_t ahead_;
  std::mutex mutex_;  // of all below
  std::condition_variable put_down_, room_;
  std::map<std::size_t, Part> parts_;
  std::size_t taken_ = 0, delivered_ = 0, running_;
  bool failed_ = false;
  std::atomic<bool> stopped_ = false;
  std::vector<std::jthread> threads_;  // last: they are joined before the rest goes
};

std::size_t count_threads(const CorpusOptions& options, std::size_t file_bytes) {
  const int cores = options.threads > 0 ? options.threads : cpu_limits().cores();
  return std::min(static_cast<std::size_t>(cores), file_bytes / kBytesAtOnce + 1);
}

}  // namespace

int32_t tokenize_documents(DocumentReader& reader, const std::string& name, const DocumentEncoder& encoder,
                           const CorpusOptions& options, const TakeDocuments& take) {
  const std::string doing = name + " is tokenised";
  Clock::time_point remark = Clock::now() + kFirstRemark;
  std::size_t documents = 0, read_up_to = 0;
  int32_t max_id = 0;
  Workers workers(reader, encoder, count_threads(options, reader.size()));
  while (!workers.done()) {
    options.host.poll(doing);
    if (Clock::now() >= remark) {
      remark = Clock::now() + kNextRemarks;
      options.host.tell(str(doing, ": ", 100 * read_up_to / reader.size(), " % so far"));
    }
    Part part;
    if (!workers.next(part)) continue;
    if (part.min_id < 0) throw UserError(str(name, ": the tokenizer gives the negative id ", part.min_id));
    take(part.ids, part.lengths);
    documents += part.lengths.size();
    read_up_to = part.read_up_to;
    max_id = std::max(max_id, part.max_id);
  }
  if (documents == 0) throw UserError(str(name, ": holds no document, only blank lines"));
  return max_id;
}

}  // namespace ithaca
