#include "ithaca/base/limits.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <thread>
#include <vector>

#include "ithaca/base/error.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr std::size_t kMaxLines = 100000;  // of a file of /proc

std::vector<std::string> words_of(const std::string& line, char separator) {
  std::vector<std::string> words;
  std::istringstream in(line);
  for (std::string word; std::getline(in, word, separator);) words.push_back(word);
  return words;
}

bool names(const std::string& list, const std::string& word) {
  const std::vector<std::string> all = words_of(list, ',');
  return std::find(all.begin(), all.end(), word) != all.end();
}

// /proc/self/mountinfo writes a space as \040.
std::string unescaped(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      result += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

struct Mount {
  std::string root, point, type, options;
};

std::vector<Mount> mounts(const fs::path& file) {
  std::vector<Mount> result;
  std::ifstream in(file);
  std::string line;
  for (std::size_t count = 0; count < kMaxLines && std::getline(in, line); ++count) {
    // 36 35 98:0 ROOT POINT options [tags] - TYPE source OPTIONS
    const std::vector<std::string> words = words_of(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 7 || words.end() - dash < 4) continue;
    result.push_back({unescaped(words[3]), unescaped(words[4]), dash[1], dash[3]});
  }
  return result;
}

// A number that is the whole content, or the value behind `key` where there is one.
std::optional<uint64_t> number_in(const fs::path& file, const std::string& key = "") {
  std::ifstream in(file);
  std::string word;
  for (std::size_t count = 0; !key.empty() && word != key; ++count)
    if (count > kMaxLines || !(in >> word)) return std::nullopt;
  uint64_t value = 0;
  if (!(in >> value)) return std::nullopt;  // "max" is no number either
  return value;
}

std::optional<double> quota_in(const fs::path& folder, bool version_2) {
  double quota = 0, period = 0;
  if (version_2) {
    std::ifstream in(folder / "cpu.max");
    if (!(in >> quota >> period)) return std::nullopt;  // "max 100000": none
  } else {
    std::ifstream quota_file(folder / "cpu.cfs_quota_us"), period_file(folder / "cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return std::nullopt;
  }
  if (quota <= 0 || period <= 0) return std::nullopt;  // -1: none
  return quota / period;
}

uint64_t kibibytes_of(const fs::path& file, const std::string& key) {
  return number_in(file, key).value_or(0) * 1024;
}

std::optional<uint64_t> resource_limit(decltype(RLIMIT_AS) resource) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

}  // namespace

ControlGroups::ControlGroups(fs::path root) : root_(std::move(root)) {}

// Where version 1 manages the controller it is mounted by name; else it is version 2's.
std::optional<ControlGroups::Place> ControlGroups::place_of(const std::string& controller) const {
  std::string group_1, group_2;
  std::ifstream in(root_ / "proc/self/cgroup");
  std::string line;
  for (std::size_t count = 0; count < kMaxLines && std::getline(in, line); ++count) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty()) group_2 = line.substr(second + 1);
    if (names(controllers, controller)) group_1 = line.substr(second + 1);
  }
  const bool version_2 = group_1.empty();
  const std::string& group = version_2 ? group_2 : group_1;
  if (group.empty()) return std::nullopt;
  for (const Mount& mount : mounts(root_ / "proc/self/mountinfo")) {
    if (mount.type != (version_2 ? "cgroup2" : "cgroup")) continue;
    if (!version_2 && !names(mount.options, controller)) continue;
    // Without a namespace of its own a container sees its group's whole name, and mounts that group's folder.
    const fs::path inside = fs::path(group).lexically_relative(mount.root);
    const fs::path point = root_ / fs::path(mount.point).relative_path();
    const bool below = !inside.empty() && *inside.begin() != "..";
    return Place{point, below ? (point / inside).lexically_normal() : point, version_2};
  }
  return std::nullopt;
}

// The smallest of what `read` finds in the group's folder and in those above it.
template <class Read>
auto ControlGroups::smallest(const std::string& controller, Read read) const {
  decltype(read(fs::path(), true)) result;
  const std::optional<Place> place = place_of(controller);
  if (!place) return result;
  const std::string mount = (place->mount / "").lexically_normal().parent_path().string();
  for (fs::path folder = (place->group / "").lexically_normal().parent_path();;
       folder = folder.parent_path()) {
    const auto value = read(folder, place->version_2);
    if (value && (!result || *value < *result)) result = value;
    if (folder.string().size() <= mount.size() || !folder.has_relative_path()) return result;
  }
}

std::optional<double> ControlGroups::cpu_quota() const {
  return smallest("cpu", quota_in);
}

std::optional<uint64_t> ControlGroups::memory_limit() const {
  constexpr uint64_t kNone = uint64_t{1} << 60;  // version 1 writes "no limit" as a number near 2^63
  return smallest("memory", [](const fs::path& folder, bool version_2) {
    std::optional<uint64_t> bytes = number_in(folder / (version_2 ? "memory.max" : "memory.limit_in_bytes"));
    if (bytes && *bytes >= kNone) bytes.reset();
    return bytes;
  });
}

std::optional<uint64_t> ControlGroups::oom_kills() const {
  if (const std::optional<Place> place = place_of("memory")) {
    const fs::path file = place->group / (place->version_2 ? "memory.events" : "memory.oom_control");
    if (const std::optional<uint64_t> count = number_in(file, "oom_kill")) return count;
  }
  return number_in(root_ / "proc/vmstat", "oom_kill");
}

int CpuLimits::cores() const {
  if (!quota || *quota >= allowed) return allowed;
  return std::max(1, static_cast<int>(std::ceil(*quota)));
}

CpuLimits cpu_limits(const ControlGroups& groups) {
  CpuLimits limits;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    limits.allowed = std::max(1, CPU_COUNT(&allowed));
  } else {  // more processors than the set has room for
    limits.allowed = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  }
  limits.quota = groups.cpu_quota();
  return limits;
}

uint64_t MemoryLimits::total() const {
  return std::min(machine, group.value_or(machine));
}

std::string MemoryLimits::words(uint64_t of) const {
  if (group && of == *group)
    return str("the memory limit of this container (control group) is ", size_text(of));
  if (process && of == *process) return str("ulimit -v (RLIMIT_AS) allows a process ", size_text(of));
  return str("the machine has ", size_text(of));
}

MemoryLimits memory_limits(const ControlGroups& groups) {
  MemoryLimits limits;
  limits.machine = kibibytes_of("/proc/meminfo", "MemTotal:") + kibibytes_of("/proc/meminfo", "SwapTotal:");
  if (limits.machine == 0) limits.machine = std::numeric_limits<uint64_t>::max();
  limits.group = groups.memory_limit();
  if (limits.group && *limits.group >= limits.machine) limits.group.reset();
  limits.process = resource_limit(RLIMIT_AS);
  return limits;
}

std::optional<uint64_t> file_size_limit() {
  return resource_limit(RLIMIT_FSIZE);
}

void raise_open_files(uint64_t needed) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  if (limit.rlim_cur < needed)
    throw UserError(str("only ", limit.rlim_cur, " files may be open at a time (ulimit -n), ", needed,
                        " are needed; raise the limit of this shell, container or batch job"));
}

std::string size_text(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

}  // namespace ithaca
