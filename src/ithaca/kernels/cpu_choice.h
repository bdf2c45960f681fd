// base/cpu.h for the kernels of this room.
#pragma once
#include "ithaca/base/cpu.h"

namespace ithaca {

// Made at the first call, from the processor and ITHACA_CPU_TIER (UserError as of choose_tier). From then on Highway takes
// no target above the tier.
const CpuChoice& cpu_choice();

}  // namespace ithaca
