#include "ithaca/data/text_hash.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <sstream>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/data/cache_lock.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kSettled = 2 * kSecond;  // the coarsest clock of a file system in use (FAT)
constexpr std::size_t kMaxStampBytes = 1024;
constexpr const char* kMagic = "ithaca-text-1";

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

int64_t last_change(const FileState& state) {
  const auto& v = state.values;
  const auto time = [&](std::size_t i) {
    return v[i] > INT64_MAX / kSecond - 1 ? INT64_MAX : v[i] * kSecond + v[i + 1];
  };
  return std::max(time(3), time(5));
}

std::string stamp_text(const FileState& state, int64_t hashed_at, const std::string& hash) {
  std::ostringstream out;
  out << kMagic;
  for (const int64_t value : state.values) out << ' ' << value;
  out << ' ' << hashed_at << ' ' << hash << '\n';
  return out.str();
}

// The hash in the stamp, if it is there and holds for `state`.
std::optional<std::string> trusted_hash(const fs::path& stamp, const FileState& state, int64_t not_before) {
  std::string text;
  try {
    if (!fs::exists(stamp)) return std::nullopt;
    text = read_file(stamp, kMaxStampBytes);
  } catch (const std::exception&) {  // as good as none
    return std::nullopt;
  }
  std::istringstream in(text);
  std::string magic, hash;
  FileState found;
  int64_t hashed_at = 0;
  in >> magic;
  for (int64_t& value : found.values) in >> value;
  in >> hashed_at >> hash;
  const bool whole = in && magic == kMagic && hash.size() == 64 &&
                     text == stamp_text(found, hashed_at, hash) &&
                     hash.find_first_not_of("0123456789abcdef") == std::string::npos;
  const bool settled = hashed_at > kSettled && last_change(state) <= hashed_at - kSettled;
  if (!whole || !(found == state) || !settled || hashed_at < not_before || hashed_at > now_ns())
    return std::nullopt;
  return hash;
}

}  // namespace

FileState FileState::of(const fs::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) return {};
  return {{static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino), info.st_size,
           info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec}};
}

std::string hash_of_text(const fs::path& file, const DocumentReader& reader, const FileState& state,
                         const fs::path& cache_dir, int64_t not_before, const Host& host) {
  Sha256 name;
  name.update(fs::absolute(file).lexically_normal().string());
  const fs::path stamp = cache_dir / str("text-", name.hex().substr(0, 32), ".stamp");
  if (const auto hash = trusted_hash(stamp, state, not_before)) return *hash;
  const std::string doing = str(file.string(), " is read");
  const auto hash_text = [&] { return reader.content_hash([&] { host.poll(doing); }); };
  std::optional<CacheLock> lock;
  try {
    lock.emplace(fs::path(stamp).replace_extension(".lock"), doing, host);
  } catch (const UserError&) {  // a folder that may only be read, which may hold the token cache for all that
    return hash_text();
  }
  if (const auto hash = trusted_hash(stamp, state, not_before)) return *hash;
  const int64_t started = now_ns();
  std::string hash = hash_text();
  if (!(FileState::of(file) == state)) return hash;
  try {
    lock->remove_leftovers(stamp);
    write_file(stamp, stamp_text(state, started, hash));
  } catch (const UserError&) {  // without a stamp the next one hashes again
  }
  return hash;
}

}  // namespace ithaca
