// Time and memory grow with the size of a file and no faster, whatever stands in it.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "ithaca/base/file.h"
#include "ithaca/base/text_encoding.h"
#include "ithaca/data/corpus_cache.h"
#include "ithaca/data/json_record.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

std::string repeated(const std::string& part, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

// Of this thread, the best of three: what else the machine does is not counted.
double cpu_seconds(const std::function<void()>& work) {
  double best = std::numeric_limits<double>::max();
  for (int round = 0; round < 3; ++round) {
    timespec begin{}, end{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    work();
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    best = std::min(best, static_cast<double>(end.tv_sec - begin.tv_sec) +
                              1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec));
  }
  return best;
}

// Eight times the bytes take about eight times as long; sixty-four, were the time quadratic.
template <class Work>
void expect_linear(const std::string& what, std::size_t bytes, const Work& work) {
  const double small = cpu_seconds(work(bytes)), large = cpu_seconds(work(8 * bytes));
  EXPECT_LT(large, 24 * small + 0.005) << what << ": " << small << " s, then " << large << " s";
}

TEST(JsonRecordTime, IsLinearInTheLine) {
  const std::vector<std::pair<std::string, std::function<std::string(std::size_t)>>> lines{
      {"text", [](std::size_t n) { return "{\"text\": \"" + std::string(n, 'x') + "\"}"; }},
      {"escapes", [](std::size_t n) { return "{\"text\": \"" + repeated("\\n\\\"\\\\", n) + "\"}"; }},
      {"pairs", [](std::size_t n) { return "{\"text\": \"" + repeated("\\ud83d\\ude00", n) + "\"}"; }},
      {"escapes beside",
       [](std::size_t n) { return "{\"a\": \"" + repeated("\\\"", n) + "\", \"text\": \"\"}"; }},
      {"an open string", [](std::size_t n) { return "{\"text\": \"" + repeated("\\\"", n); }},
      {"keys", [](std::size_t n) { return "{" + repeated("\"k\": 1, ", n) + "\"text\": \"\"}"; }},
      {"the key again",
       [](std::size_t n) { return "{" + repeated("\"text\": \"a\", ", n) + "\"text\": \"\"}"; }},
      {"escaped keys",
       [](std::size_t n) { return "{" + repeated("\"\\u0074ex\": 1, ", n) + "\"text\": \"\"}"; }},
      {"a long key", [](std::size_t n) { return "{\"" + std::string(n, '\x01') + "\": 1}"; }},
      {"numbers", [](std::size_t n) { return "{\"a\": [" + repeated("1e9, ", n) + "1], \"text\": \"\"}"; }},
      {"digits", [](std::size_t n) { return "{\"a\": " + std::string(n, '7') + ", \"text\": \"\"}"; }},
      {"brackets",
       [](std::size_t n) { return "{\"a\": [" + repeated("[[{}], []], ", n) + "1], \"text\": \"\"}"; }},
      {"depth", [](std::size_t n) { return "{\"a\": " + std::string(n, '['); }},
      {"space", [](std::size_t n) { return "{" + std::string(n, ' ') + "\"text\": \"\"}"; }},
      {"no UTF-8", [](std::size_t n) {
         return "{\"text\": \"" + std::string(n, 'x') + "\xFF" + std::string(n, 'x') + "\"}";
       }}};
  for (const auto& [name, line_of] : lines)
    expect_linear(name, 1 << 18, [&, make = &line_of](std::size_t bytes) {
      return [line = (*make)(bytes)] { JsonRecord(line, "text").problem().size(); };
    });
}

TEST(EncodingTime, IsLinearInTheText) {
  const std::vector<std::string> parts{"x", "\xE6\xB5\xB7", "\xEF\xBB\xBF", std::string("\0", 1),
                                       "a\xCC\x81"};
  for (const std::string& part : parts)
    expect_linear(part, 1 << 19, [&](std::size_t bytes) {
      return [text = repeated(part, bytes)] {
        const std::size_t bad = find_invalid_utf8(text).value_or(0);
        wide_encoding_problem(without_byte_order_mark(text)).size();
        not_utf8_problem(text, bad).size();
      };
    });
}

using LinearTest = DataTest;

TEST_F(LinearTest, LoadingACacheIsLinearInItsFile) {
  const std::string key(64, 'a');
  expect_linear("cache", 1 << 18, [&](std::size_t ids) {
    const std::filesystem::path file = folder_ / (std::to_string(ids) + ".bin");
    CacheWriter writer(file, key);
    writer.append(std::vector<int32_t>(ids, 3), std::vector<int64_t>(ids, 1));
    writer.commit(3);
    return [file, key] {
      Corpus corpus;
      EXPECT_EQ(load_cache(
                    file, key, CacheCheck::kEveryByte, [] {}, corpus),
                "");
    };
  });
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they take memory of their own
// Of a text of 32 MB and its 128 MB of ids a process holds 64 MB at most, threads' stacks and all: neither is held whole.
TEST_F(LinearTest, NeitherTheTextNorItsIdsAreHeldWhole) {
  {
    std::ofstream out(folder_ / "large.jsonl");
    const std::string line = "{\"text\": \"" + std::string(999, 'x') + "\"}\n";
    for (int i = 0; i < (32 << 20) / 1000; ++i) out << line;
  }
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::ifstream statm("/proc/self/statm");
    rlim_t pages[6] = {};
    for (rlim_t& value : pages) statm >> value;
    const rlim_t limit = pages[5] * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{64} << 20);
    const rlimit limits{limit, limit};
    ::setrlimit(RLIMIT_DATA, &limits);
    try {
      const Corpus corpus = open_corpus(folder_ / "large.jsonl", byte_encoder(),
                                        {.cache_dir = folder_ / "cache", .threads = 2});
      ::_exit(corpus.ids.size() == 1000u * (corpus.bounds.size() - 1) ? 0 : 1);
    } catch (...) {
      ::_exit(2);
    }
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}
#endif

}  // namespace
}  // namespace ithaca
