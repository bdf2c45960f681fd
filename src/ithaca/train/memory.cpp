#include "ithaca/train/memory.h"

#include <sys/resource.h>

#include <fstream>
#include <optional>
#include <string>

namespace ithaca {
namespace {

// A line of /proc/self/status: "VmRSS:	  123456 kB"
std::optional<int64_t> status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string key; status >> key;) {
    int64_t kilobytes = 0;
    if (key == name + ":" && status >> kilobytes) return kilobytes * 1024;
    std::getline(status, key);
  }
  return std::nullopt;
}

int64_t rusage_peak_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace

int64_t peak_memory_bytes() {
  if (const auto peak = status_bytes("VmHWM")) return *peak;
  return rusage_peak_bytes();
}

int64_t current_memory_bytes() {
  if (const auto current = status_bytes("VmRSS")) return *current;
  return rusage_peak_bytes();
}

}  // namespace ithaca
