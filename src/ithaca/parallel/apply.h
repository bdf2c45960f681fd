// Takes a single-device decoder and a mesh, makes it parallel. The one written order: sequence, then
// activation checkpointing.
#pragma once
#include "ithaca/comm/device_mesh.h"
#include "ithaca/data/batch.h"
#include "ithaca/models/decoder.h"
#include "ithaca/parallel/plan.h"

namespace ithaca {

// Replaces each attention's core and sets run_layer. UserError when a degree does not fit the model (before
// any collective). `mesh` must outlive the decoder's use.
void apply_parallelism(Decoder& decoder, const ParallelPlan& plan, DeviceMesh& mesh);

// Bytes that the rank at `sequence_rank` of its sequence sends in one training step over one micro-batch:
// attention of every layer forward and backward, and what is repeated where layers are recomputed, by the
// formulas of config/layout.h.
int64_t predicted_attention_bytes(const Decoder& decoder, const ParallelPlan& plan, int sequence_rank,
                                  const Batch& batch);

// Attention work of the busiest rank of a sequence over the mean: pairs of query and key, times query heads.
// Steps wait for that rank.
double attention_imbalance(const Decoder& decoder, const ParallelPlan& plan, const Batch& batch);

}  // namespace ithaca
