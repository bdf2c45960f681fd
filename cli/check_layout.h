// The part of `ithaca check` that says what each rank would hold, compute and send.
#pragma once
#include <cstdint>
#include <string>

#include "ithaca/config/settings.h"

namespace ithaca {

// "1.23 MB"
std::string megabytes(int64_t bytes);

// The method of sequence parallelism with its reason, the grid of ranks, the kernel and pattern of attention, and
// a table of ranks. The settings have no problems.
void print_attention_layout(const Settings& settings, const ModelConfig& model, int64_t ranks_per_node);

}  // namespace ithaca
