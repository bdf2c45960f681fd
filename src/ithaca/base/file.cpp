#include "ithaca/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "ithaca/base/error.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr std::string_view kTemporaryMark = ".tmp.";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

// Empty for a regular file.
std::string kind_problem(mode_t mode) {
  if (S_ISREG(mode)) return "";
  if (S_ISDIR(mode)) return "is a folder, not a file";
  if (S_ISFIFO(mode))
    return "is a pipe, not a file: files are read more than once; write what comes through it to a file "
           "(COMMAND > "
           "FILE) and name that";
  if (S_ISSOCK(mode)) return "is a socket, not a file";
  return "is a device, not a file";
}

}  // namespace

std::string input_file_problem(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0)
    return errno == ENOENT || errno == ENOTDIR ? "no such file"
                                               : str("cannot be read: ", std::strerror(errno));
  return kind_problem(info.st_mode);
}

std::string file_ending(const fs::path& path) {
  std::string ending = path.extension().string();
  for (char& c : ending)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return ending;
}

namespace {

struct OpenedFile {
  Descriptor fd;
  std::size_t size = 0;
};

// Looks before it opens, since opening alone may wait for ever (a pipe) or do something (a device); and after, since
// the name may lead elsewhere by then.
OpenedFile open_input(const fs::path& path, const char* lead) {
  std::string problem = input_file_problem(path);
  if (!problem.empty()) throw UserError(str(path.string(), ": ", lead, problem));
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0)
    throw UserError(str(path.string(), ": ", lead, "cannot be read: ", std::strerror(errno)));
  problem = kind_problem(info.st_mode);
  if (!problem.empty()) throw UserError(str(path.string(), ": ", lead, problem));
  return {std::move(fd), static_cast<std::size_t>(info.st_size)};
}

}  // namespace

std::string read_file(const fs::path& path, std::size_t max_bytes) {
  const OpenedFile file = open_input(path, "");
  if (file.size > max_bytes)
    throw UserError(str(path.string(), ": ", file.size, " bytes, at most ", max_bytes, " are accepted here"));
  std::string bytes(file.size, '\0');
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count = ::read(file.fd, bytes.data() + filled, bytes.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw UserError(str(path.string(), ": cannot be read: ", std::strerror(errno)));
    if (count == 0) throw UserError(str(path.string(), ": changed while it was read"));
    filled += static_cast<std::size_t>(count);
  }
  return bytes;
}

std::string write_failure(int error) {
  const char* text = std::strerror(error);
  switch (error) {
    case ENOSPC:
      return str("the disk is full (", text, ")");
    case EDQUOT:
      return str("the quota of the disk is used up (", text, ")");
    case EFBIG:
      return str(
          "the limit on the size of a file is reached, of this process (ulimit -f) or of the file system (",
          text, ")");
    default:
      return text;
  }
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  // a name of its own, also among processes of several machines
  std::random_device random;
  temporary_ = str(path.string(), kTemporaryMark, ::getpid(), "-", random());
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) fail("cannot be made");
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write_at(size_, bytes);
}

void AtomicFile::write_at(std::size_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot be written");
    offset += static_cast<std::size_t>(written);
    size_ = std::max(size_, offset);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  // a full disk or quota may be told here only (network file systems)
  if (::fsync(fd_) != 0) fail("cannot be brought to the disk");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot be renamed to");
  ::close(std::exchange(fd_, -1));
  sync_path(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

void AtomicFile::fail(const char* what) const {
  throw UserError(str(path_.string(), ": ", what, ": ", write_failure(errno)));
}

void write_file(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(bytes)));
  file.commit();
}

void remove_unfinished_files(const fs::path& folder) {
  std::vector<fs::path> unfinished;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const std::size_t end = name.rfind(kTemporaryMark);
    const auto of_a_process = [](char c) { return c == '-' || (c >= '0' && c <= '9'); };
    if (end != std::string::npos && entry.is_regular_file(error) &&
        std::all_of(name.begin() + static_cast<std::ptrdiff_t>(end + kTemporaryMark.size()), name.end(),
                    of_a_process))
      unfinished.push_back(entry.path());
  }
  for (const fs::path& path : unfinished) fs::remove(path, error);  // one that stays does no harm
}

void sync_path(const fs::path& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd < 0) throw UserError(str(path.string(), ": cannot open: ", std::strerror(errno)));
  // Some file systems refuse to fsync a folder (EINVAL); there is nothing more to do there.
  if (::fsync(fd) != 0 && errno != EINVAL)
    throw UserError(str(path.string(), ": cannot be brought to the disk: ", write_failure(errno)));
}

fs::path resolve_inside(const fs::path& folder, const std::string& name, const std::string& source,
                        const std::string& key) {
  const auto refuse = [&](const char* why) {
    return UserError(str(source, ": ", key, " names the file \"", name, "\", which ", why,
                         "; expected a plain file name inside ", folder.string()));
  };
  if (name.empty()) throw refuse("is empty");
  if (name.find('\0') != std::string::npos) throw refuse("holds a zero byte");
  if (name == "." || name == "..") throw refuse("is not a file");
  if (name.find('/') != std::string::npos || name.find('\\') != std::string::npos)
    throw refuse("leads to another folder");
  return folder / name;
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  const OpenedFile opened = open_input(path, "cannot open: ");
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  file->size_ = opened.size;
  if (file->size_ == 0) return file;
  void* data = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, opened.fd, 0);
  if (data == MAP_FAILED) throw UserError(str(path.string(), ": cannot map: ", std::strerror(errno)));
  file->data_ = static_cast<const std::byte*>(data);
  return file;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace ithaca
