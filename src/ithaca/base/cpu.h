// What the processor can do, and which vector code is the fastest on it: decided from its name and features alone,
// so that tests can ask about processors that are not here.
#pragma once
#include <string>
#include <string_view>

namespace ithaca {

struct Processor {
  std::string vendor = {};   // CPUID's: "GenuineIntel", "AuthenticAMD"; empty on other architectures
  bool avx2 = false;         // and FMA, F16C, BMI2
  bool avx512 = false;       // F, BW, CD, DQ, VL
  bool avx512_bf16 = false;  // dot products of bf16
  bool amx_bf16 = false;     // tiles of bf16, which the system lets this process use
};
// Asks CPUID and, for AMX, the kernel: under an emulator the emulated processor, unlike /proc/cpuinfo.
Processor this_processor();

// The vector code that our kernels run, each with what the ones before it have. kAvx512Bf16 multiplies bf16 by dot
// products, the others widen it to float32.
enum class CpuTier { kBaseline, kAvx2, kAvx512, kAvx512Bf16 };
// "baseline", "avx2", "avx512", "avx512_bf16"
const char* cpu_tier_name(CpuTier tier);

bool has_tier(const Processor& processor, CpuTier tier);
// The fastest. AMD's Zen 4 and 5 begin a dot product of 512 bits every cycle, twice the sums of float32; Intel's
// processors every second cycle, half of them: there bf16 goes through float32. So it does on what is not known.
CpuTier fastest_tier(const Processor& processor);

// `wanted`: the value of ITHACA_CPU_TIER, empty: the fastest. UserError for a name that is none, or a tier that the
// processor lacks.
CpuTier choose_tier(const Processor& processor, std::string_view wanted);

// Both for this process, from its environment.
struct CpuChoice {
  CpuTier tier = CpuTier::kBaseline;
  // `attention: auto` gives bf16 to ATen's kernel where AMX multiplies it, 2 to 3 times as fast as ours; not where a
  // tier is asked for.
  bool aten_bf16_attention = false;
};
CpuChoice choose_cpu(const Processor& processor, std::string_view wanted);
CpuChoice choose_cpu();

}  // namespace ithaca
