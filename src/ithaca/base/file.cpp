#include "ithaca/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <utility>

#include "ithaca/base/error.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, mode_t mode = 0644)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {
    if (fd_ < 0) throw UserError(str(path.string(), ": cannot open: ", std::strerror(errno)));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::string read_file(const fs::path& path, std::size_t max_bytes) {
  std::ifstream in(path, std::ios::binary);
  std::error_code error;
  if (!in || !fs::is_regular_file(path, error))
    throw UserError(str(path.string(), ": no such file, or not readable"));
  const std::size_t size = fs::file_size(path);
  if (size > max_bytes)
    throw UserError(str(path.string(), ": ", size, " bytes, at most ", max_bytes, " are accepted here"));
  std::string bytes(size, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(size));
  if (static_cast<std::size_t>(in.gcount()) != size)
    throw UserError(str(path.string(), ": changed while it was read"));
  return bytes;
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  // a name of its own, also among processes of several machines
  std::random_device random;
  temporary_ = str(path.string(), ".tmp.", ::getpid(), "-", random());
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
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail("cannot fsync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot be renamed to");
  ::close(std::exchange(fd_, -1));
  sync_path(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

void AtomicFile::fail(const char* what) const {
  throw UserError(str(path_.string(), ": ", what, ": ", std::strerror(errno)));
}

void write_file(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(bytes)));
  file.commit();
}

void sync_path(const fs::path& path) {
  Descriptor fd(path, O_RDONLY);
  // Some file systems refuse to fsync a folder (EINVAL); there is nothing more to do there.
  if (::fsync(fd) != 0 && errno != EINVAL)
    throw UserError(str(path.string(), ": cannot fsync: ", std::strerror(errno)));
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
  fs::path path = folder / name;
  std::error_code error;
  const fs::path real = fs::weakly_canonical(path, error);
  // Weights of another model could be slipped in through a link (the traversal peers had to mend in 2026)
  if (!error && fs::is_symlink(path) &&
      (!fs::exists(path) || real.parent_path() != fs::weakly_canonical(folder)))
    throw refuse("is a symbolic link out of the folder");
  return path;
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  Descriptor fd(path, O_RDONLY);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
    throw UserError(str(path.string(), ": not a regular file"));
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  file->size_ = static_cast<std::size_t>(info.st_size);
  if (file->size_ == 0) return file;
  void* data = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) throw UserError(str(path.string(), ": cannot map: ", std::strerror(errno)));
  file->data_ = static_cast<const std::byte*>(data);
  return file;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace ithaca
