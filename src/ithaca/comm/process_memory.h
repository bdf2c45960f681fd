// What one process needs to read another's memory on Linux, and a segment that several share.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>

namespace ithaca {

// Empty, or why this process must not even try to: a filter (seccomp) may end whoever makes such a call instead
// of refusing it, so a child makes them first.
std::string process_memory_filter();

// Boot, process namespace and user: processes with the same one can reach each other by number. Empty where
// /proc does not say.
std::string machine_identity();

// Zeroed memory that belongs to no file system (memfd): /dev/shm may be small, or missing. All of it is there
// from the start, so that writing to it cannot end in SIGBUS.
class SharedMemory {
 public:
  static std::unique_ptr<SharedMemory> make(std::size_t bytes);
  // Of a process that made one; `name` is its name() there.
  static std::unique_ptr<SharedMemory> attach(const std::string& name, std::size_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void* data() const { return memory_; }  // null: see error()
  const std::string& error() const { return error_; }
  std::string name() const;  // for attach, while this object lives

 private:
  SharedMemory(int fd, std::size_t bytes);
  int fd_;
  std::size_t bytes_;
  void* memory_ = nullptr;
  std::string error_;
};

}  // namespace ithaca
