#include "ithaca/kernels/cpu_choice.h"

#include <hwy/highway.h>

namespace ithaca {
namespace {

CpuChoice make_choice() {
  const CpuChoice choice = choose_cpu();
#if HWY_ARCH_X86
  // A smaller bit is a better target.
  if (choice.tier == CpuTier::kBaseline) hwy::DisableTargets(2 * HWY_AVX2 - 1);
  if (choice.tier == CpuTier::kAvx2) hwy::DisableTargets(HWY_AVX2 - 1);
#endif
  return choice;
}

}  // namespace

const CpuChoice& cpu_choice() {
  static const CpuChoice choice = make_choice();
  return choice;
}

}  // namespace ithaca
