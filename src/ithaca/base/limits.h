// What this process may use of its machine: processors, memory, files. Containers and batch systems give
// less than the machine has, through control groups (version 1 and 2), resource limits and affinity.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace ithaca {

// The control groups that this process is in, and their parents as far as they are mounted here.
class ControlGroups {
 public:
  // `root` stands for "/" (tests). Files that are missing or hold something else limit nothing.
  explicit ControlGroups(std::filesystem::path root = "/");

  // In processors: the smallest cpu.max, or cpu.cfs_quota_us / cpu.cfs_period_us.
  std::optional<double> cpu_quota() const;
  // Bytes: the smallest memory.max, or memory.limit_in_bytes.
  std::optional<uint64_t> memory_limit() const;
  // Processes that the kernel has ended here for want of memory; where the group does not say, on the machine.
  std::optional<uint64_t> oom_kills() const;

 private:
  struct Place {
    std::filesystem::path mount, group;  // the group's folder lies in `mount` or is it
    bool version_2 = false;
  };
  std::optional<Place> place_of(const std::string& controller) const;
  template <class Read>
  auto smallest(const std::string& controller, Read read) const;

  std::filesystem::path root_;
};

struct CpuLimits {
  int allowed = 1;              // processors in this process's affinity
  std::optional<double> quota;  // of control groups
  // Threads that can run at a time: the quota rounded up, at most `allowed`, at least 1.
  int cores() const;
};
CpuLimits cpu_limits(const ControlGroups& groups = ControlGroups());

struct MemoryLimits {
  uint64_t machine = 0;                  // MemTotal and SwapTotal
  std::optional<uint64_t> group;         // of control groups
  std::optional<uint64_t> process;       // RLIMIT_AS, of one process
  uint64_t total() const;                // what all ranks here may use together
  std::string words(uint64_t of) const;  // where a number of total() comes from: "the machine has ..."
};
MemoryLimits memory_limits(const ControlGroups& groups = ControlGroups());

// RLIMIT_FSIZE: the largest file this process may write.
std::optional<uint64_t> file_size_limit();

// Raises the soft limit of open files to the hard one. UserError when fewer than `needed` may be open.
void raise_open_files(uint64_t needed);

// "1.5 GiB", "8.0 KiB"
std::string size_text(uint64_t bytes);

}  // namespace ithaca
