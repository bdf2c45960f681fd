// Takes a single-device decoder and a mesh, makes it parallel. The one written order: sequence, then
// activation checkpointing.
#pragma once
#include <functional>
#include <memory>

#include "ithaca/comm/device_mesh.h"
#include "ithaca/data/batch.h"
#include "ithaca/models/decoder.h"
#include "ithaca/parallel/plan.h"
#include "ithaca/parallel/sequence/batch_plan.h"

namespace ithaca {

// Replaces each attention's core and sets run_layer. UserError when a degree does not fit the model (before
// any collective). `mesh` must outlive the decoder's use. Returns the plans that the cores look at, one a batch at a time.
std::shared_ptr<PlanCache> apply_parallelism(Decoder& decoder, const ParallelPlan& plan, DeviceMesh& mesh);

// The part of a batch that the rank at `sequence_rank` of its sequence takes, cut as the batch's plan says; `planned`
// (may be empty) is told of that plan. The decoder's cores use the same one.
SequenceShard shard_planned(const Batch& batch, const Decoder& decoder, const SequenceGrid& grid,
                            int sequence_rank, PlanCache& plans,
                            const std::function<void(const BatchPlan&)>& planned = {});

// Bytes that the rank at `sequence_rank` of its sequence sends in one training step over one micro-batch:
// attention of every layer forward and backward, and what is repeated where layers are recomputed, by the
// formulas of config/layout.h.
int64_t predicted_attention_bytes(const Decoder& decoder, const ParallelPlan& plan, int sequence_rank,
                                  const BatchPlan& batch);

// Attention work of the busiest rank of a sequence over the mean: pairs of query and key, times query heads.
// Steps wait for that rank.
double attention_imbalance(const Decoder& decoder, const ParallelPlan& plan, const BatchPlan& batch);

}  // namespace ithaca
