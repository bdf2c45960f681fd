// Activation checkpointing, layer by layer (Chen et al. 2016, arXiv 1604.06174): the forward pass keeps the
// layer's input, the backward pass runs the layer again. Attention itself is not run again: what its backward
// needs stays in the layer's stash (selective recomputation, Korthikanti et al. 2022, arXiv 2205.05198).
#pragma once
#include <string>

#include "ithaca/models/decoder.h"

namespace ithaca {

enum class CheckpointMode {
  kNone,
  kFull,           // holds the input, and attention's out and lse: its inbound exchange is repeated
  kKeepAttention,  // also q, k, v as attention saw them: no communication is repeated
};
// "false" | "full" | "keep_attention"
CheckpointMode checkpoint_mode_from_name(const std::string& name);

// Wraps `inner` (empty: layer.forward). kNone returns it as it is. The layers must outlive the graph.
RunLayer checkpointed(RunLayer inner, CheckpointMode mode);

}  // namespace ithaca
