// Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): a layer keeps only its input and is run
// again in the backward pass.
#pragma once
#include "ithaca/models/decoder.h"

namespace ithaca {

// A runner that wraps `inner` (empty: the layer itself). One tensor [B, S, C] a layer stays in memory. The
// layer must be deterministic; its collectives are repeated in the backward pass, on every rank alike.
RunLayer checkpointed(RunLayer inner);

}  // namespace ithaca
