#include "ithaca/base/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr CpuTier kTiers[] = {CpuTier::kBaseline, CpuTier::kAvx2, CpuTier::kAvx512, CpuTier::kAvx512Bf16};

#if defined(__x86_64__)
std::string vendor_name() {
  uint32_t most = 0, parts[3] = {};
  if (__get_cpuid(0, &most, &parts[0], &parts[2], &parts[1]) == 0) return "";
  char name[sizeof parts + 1] = {};
  std::memcpy(name, parts, sizeof parts);
  return name;
}

bool has_amx_bf16() {
  constexpr uint32_t kLeaf = 7, kBf16 = 1U << 22, kTile = 1U << 24;
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(kLeaf, 0, &a, &b, &c, &d) == 0 || (d & kBf16) == 0 || (d & kTile) == 0) return false;
  // A process asks once before its first tile; the kernel refuses where it, or a filter, does not know them. ATen asks as well.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

}  // namespace

Processor this_processor() {
  Processor found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  found.vendor = vendor_name();
  // These ask the system's support of the wider registers too.
  found.avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  found.avx512 = found.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl");
  found.avx512_bf16 = found.avx512 && __builtin_cpu_supports("avx512bf16");
  found.amx_bf16 = found.avx512_bf16 && has_amx_bf16();
#endif
  return found;
}

const char* cpu_tier_name(CpuTier tier) {
  switch (tier) {
    case CpuTier::kBaseline:
      return "baseline";
    case CpuTier::kAvx2:
      return "avx2";
    case CpuTier::kAvx512:
      return "avx512";
    case CpuTier::kAvx512Bf16:
      break;
  }
  return "avx512_bf16";
}

bool has_tier(const Processor& processor, CpuTier tier) {
  switch (tier) {
    case CpuTier::kBaseline:
      return true;
    case CpuTier::kAvx2:
      return processor.avx2;
    case CpuTier::kAvx512:
      return processor.avx512;
    case CpuTier::kAvx512Bf16:
      break;
  }
  return processor.avx512_bf16;
}

CpuTier fastest_tier(const Processor& processor) {
  if (processor.avx512_bf16 && processor.vendor == "AuthenticAMD") return CpuTier::kAvx512Bf16;
  return processor.avx512 ? CpuTier::kAvx512 : processor.avx2 ? CpuTier::kAvx2 : CpuTier::kBaseline;
}

CpuTier choose_tier(const Processor& processor, std::string_view wanted) {
  if (wanted.empty()) return fastest_tier(processor);
  std::string here;
  for (const CpuTier tier : kTiers) {
    if (!has_tier(processor, tier)) continue;
    if (wanted == cpu_tier_name(tier)) return tier;
    here += str(here.empty() ? "" : ", ", cpu_tier_name(tier));
  }
  throw UserError(str("ITHACA_CPU_TIER is \"", wanted, "\"; this processor has ", here,
                      ". Unset it: the fastest is taken"));
}

CpuChoice choose_cpu(const Processor& processor, std::string_view wanted) {
  return {choose_tier(processor, wanted), processor.amx_bf16 && wanted.empty()};
}

CpuChoice choose_cpu() {
  const char* wanted = std::getenv("ITHACA_CPU_TIER");
  return choose_cpu(this_processor(), wanted ? wanted : "");
}

}  // namespace ithaca
