// Takes a single-device decoder and a mesh, makes it parallel. The one written order: sequence, then
// activation checkpointing.
#pragma once
#include "ithaca/comm/device_mesh.h"
#include "ithaca/models/decoder.h"
#include "ithaca/parallel/plan.h"

namespace ithaca {

// Replaces each attention's core and sets run_layer. UserError when a degree does not fit the model (before
// any collective). `mesh` must outlive the decoder's use.
void apply_parallelism(Decoder& decoder, const ParallelPlan& plan, DeviceMesh& mesh,
                       AttentionBackend backend);

// Bytes that this rank sends in one training step over one micro-batch of `batch` rows of `length` tokens:
// attention of every layer forward and backward (and again forward where layers are recomputed), by the
// formulas of config/layout.h.
int64_t predicted_attention_bytes(const Decoder& decoder, const ParallelPlan& plan, int sequence_rank,
                                  int64_t batch, int64_t length);

}  // namespace ithaca
