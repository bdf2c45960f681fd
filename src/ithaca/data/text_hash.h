// The SHA-256 of a text file, computed once a machine and remembered in the cache folder.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "ithaca/data/document_reader.h"
#include "ithaca/data/host.h"

namespace ithaca {

// What changes whenever the bytes of a file do, as far as its file system tells: device, inode, size, and the times of
// the last change of content and of status in nanoseconds (a copy can be given an old mtime, but no old ctime).
struct FileState {
  std::array<int64_t, 7> values{};  // device, inode, size, mtime s and ns, ctime s and ns
  bool operator==(const FileState&) const = default;
  static FileState of(const std::filesystem::path& file);  // all zero if there is none
};

// The hash of `reader`'s file, whose state was `state` before it was opened. It is taken from a stamp in `cache_dir`, a file
// under a name made from the text's whole path, if that was written for the same state, and at least two seconds after
// the text's last change: a later one could carry the same time. Else the first of the processes that ask hashes the
// file and the others wait for its stamp. `not_before` (nanoseconds since 1970): an older stamp does not count.
std::string hash_of_text(const std::filesystem::path& file, const DocumentReader& reader,
                         const FileState& state, const std::filesystem::path& cache_dir, int64_t not_before,
                         const Host& host);

}  // namespace ithaca
