// Resident memory of this process as the kernel counts it, in bytes.
#pragma once
#include <cstdint>

namespace ithaca {

int64_t current_memory_bytes();
// The most it ever was (VmHWM), file-backed pages included; getrusage's figure where /proc does not tell.
int64_t peak_memory_bytes();

}  // namespace ithaca
