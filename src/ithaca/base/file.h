// Files: whole reads with a size limit, durable writes, read-only maps, and names that must stay inside a
// folder. What is read is a regular file or a link to one: a pipe, a device or a folder under its name is refused
// at once, never waited for.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ithaca {

// What keeps `path` from being read as a file, with a way round ("is a pipe ...; write it to a file first");
// empty for a regular file.
std::string input_file_problem(const std::filesystem::path& path);

// The end of the path in small letters, with its dot: ".jsonl" for "Rows.JSONL".
std::string file_ending(const std::filesystem::path& path);

// Reads a whole file; UserError names the path if it is missing, no regular file, unreadable or larger than
// `max_bytes`.
std::string read_file(const std::filesystem::path& path, std::size_t max_bytes);

// Writes `bytes` to a temporary name beside `path`, fsyncs, renames over `path`, fsyncs the folder: after a
// crash either the old or the new content is there, whole.
void write_file(const std::filesystem::path& path, std::string_view bytes);

// Why a write failed, for an errno: a full disk, a used-up quota and a limit on the size of files are told as such.
std::string write_failure(int error);

// The same in pieces, for files that are too large to be held: appears under its name, whole and on the disk, with
// commit(); without it nothing stays behind. UserError names `path` and what went wrong. Until then the file is
// `path`.tmp.PID-NUMBER; only a process that is killed leaves one.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);  // behind what was written before
  void write_at(std::size_t offset, std::span<const std::byte> bytes);
  void commit();  // once, the last call

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  std::string temporary_;
  int fd_ = -1;
  std::size_t size_ = 0;  // the end of what was written
};

// Deletes what AtomicFiles of killed processes left in `folder` itself. For a folder that no other process writes
// into: theirs look the same.
void remove_unfinished_files(const std::filesystem::path& folder);

// fsyncs a file or a folder that was written by other means.
void sync_path(const std::filesystem::path& path);

// `folder / name`, where `name` comes from a file of unknown origin. UserError (naming `key` and `source`)
// unless name is a plain file name: not empty, not absolute, no separator, not "." or "..". Where a symbolic link of
// that name leads is the folder owner's doing (in the Hugging Face cache every file is a link into blobs/).
std::filesystem::path resolve_inside(const std::filesystem::path& folder, const std::string& name,
                                     const std::string& source, const std::string& key);

// A file mapped read-only; shared, so that views of it can keep it alive. UserError if it cannot be opened or is no
// regular file.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace ithaca
