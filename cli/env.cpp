// What a bug report needs. Of the environment only the variables named here are shown, never all of it: it
// may hold secrets.
#include <sys/utsname.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/commands.h"
#include "ithaca/base/error.h"
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

std::string gib(const std::string& kib) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", std::strtod(kib.c_str(), nullptr) / (1 << 20));
  return text;
}

std::string launcher() {
  try {
    const RankEnvironment found = read_rank_environment();
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
  line("cores", str(available_cores(), " usable by this process"));
  line("memory", gib(proc_value("/proc/meminfo", "MemTotal")) + ", available " +
                     gib(proc_value("/proc/meminfo", "MemAvailable")));
  line("nvidia driver", nvidia_driver());
  line("launcher", launcher());
  for (const char* name : {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "ATEN_CPU_CAPABILITY",
                           "CUDA_VISIBLE_DEVICES"})
    if (const char* value = std::getenv(name)) line(name, value);
  return kDone;
}

}  // namespace ithaca
