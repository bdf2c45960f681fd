// What a bug report needs. Of the environment only the variables named here are shown, never all of it: it
// may hold secrets.
#include <sys/resource.h>
#include <sys/utsname.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/commands.h"
#include "ithaca/base/cpu.h"
#include "ithaca/base/error.h"
#include "ithaca/base/limits.h"
#include "ithaca/launch/environment.h"

namespace ithaca {
namespace {

void line(const char* name, const std::string& value) {
  std::printf("%-14s %s\n", name, value.c_str());
}

// The first "key : value" line of a file of /proc.
std::string proc_value(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string text; std::getline(in, text);) {
    const std::size_t colon = text.find(':');
    if (!text.starts_with(key) || colon == std::string::npos) continue;
    const std::size_t start = text.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : text.substr(start);
  }
  return "";
}

std::string cpu_features() {
  std::istringstream flags(proc_value("/proc/cpuinfo", "flags"));
  std::string found;
  for (std::string flag; flags >> flag;)
    for (const char* known : {"avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni",
                              "amx_tile", "amx_bf16"})
      if (flag == known) found += (found.empty() ? "" : " ") + flag;
  return found.empty() ? "none that matter here" : found;
}

uint64_t memory_bytes(const std::string& key) {
  return std::strtoull(proc_value("/proc/meminfo", key).c_str(), nullptr, 10) * 1024;
}

std::string cores() {
  const CpuLimits limits = cpu_limits();
  std::string text = str(limits.cores(), " usable by this process");
  if (limits.cores() < limits.allowed)
    text += str(" (a CPU quota of ", *limits.quota, " on ", limits.allowed, " processors)");
  return text;
}

std::string memory() {
  const MemoryLimits limits = memory_limits();
  std::string text =
      size_text(memory_bytes("MemTotal")) + ", available " + size_text(memory_bytes("MemAvailable"));
  if (limits.group) text += ", limit of this container " + size_text(*limits.group);
  if (limits.process) text += ", of a process " + size_text(*limits.process) + " (ulimit -v)";
  return text;
}

std::string files() {
  rlimit open_files{};
  getrlimit(RLIMIT_NOFILE, &open_files);
  std::string text = str("open at a time ", open_files.rlim_max);
  if (const std::optional<uint64_t> largest = file_size_limit())
    text += str(", none beyond ", size_text(*largest), " (ulimit -f)");
  return text;
}

std::string vector_code() {
  try {
    const CpuChoice choice = choose_cpu();
    return str(cpu_tier_name(choice.tier), "; attention auto takes ",
               choice.aten_bf16_attention ? "ATen's kernel for bf16 (AMX), else our own" : "our own kernel");
  } catch (const UserError& error) {
    return str("not usable: ", error.what());
  }
}

std::string launcher() {
  try {
    const RankEnvironment found = read_rank_environment();
    if (!found.remark.empty()) return "none (one process): " + found.remark;
    if (found.source == "single") return "none (one process)";
    return str(found.source, ": rank ", found.rank, " of ", found.world_size, ", local ", found.local_rank,
               " of ", found.local_world_size, ", meeting at ", found.master_addr, ":", found.master_port);
  } catch (const UserError& error) {
    return str("not usable: ", error.what());
  }
}

std::string nvidia_driver() {
  std::error_code error;
  if (!std::filesystem::exists("/proc/driver/nvidia/version", error)) return "none";
  const std::string version = proc_value("/proc/driver/nvidia/version", "NVRM version");
  return version.empty() ? "present" : version;
}

}  // namespace

int run_env(const Words& words) {
  if (!words.empty()) throw UserError("env: expected no arguments");
  utsname system{};
  uname(&system);
  line("ithaca", ITHACA_VERSION " (" ITHACA_BUILD ")");
  line("libtorch", ITHACA_TORCH_VERSION);
  line("compiler", __VERSION__);
  line("system", str(system.sysname, " ", system.release, " ", system.machine));
  line("processor", proc_value("/proc/cpuinfo", "model name"));
  line("features", cpu_features());
  line("vector code", vector_code());
  line("cores", cores());
  line("memory", memory());
  line("files", files());
  line("nvidia driver", nvidia_driver());
  line("launcher", launcher());
  for (const char* name : {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "ATEN_CPU_CAPABILITY",
                           "ITHACA_CPU_TIER", "CUDA_VISIBLE_DEVICES"})
    if (const char* value = std::getenv(name)) line(name, value);
  return kDone;
}

}  // namespace ithaca
