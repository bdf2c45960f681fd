// One training step, as a sentence: micro-batches -> cut for this rank -> loss sum -> backward -> each rank's
// part of the gradients summed over ranks -> one small all-reduce -> scale and clip -> AdamW on the part ->
// everybody's new weights gathered. Contract "Loss and gradients" of
// docs/architecture.md: sums everywhere, one division by the step's global count of labels.
#pragma once
#include <functional>
#include <vector>

#include "ithaca/comm/device_mesh.h"
#include "ithaca/data/batch.h"
#include "ithaca/models/decoder.h"
#include "ithaca/optim/optimizer.h"
#include "ithaca/parallel/plan.h"
#include "ithaca/parallel/sequence/batch_plan.h"
#include "ithaca/parallel/zero/shards.h"

namespace ithaca {

// Wall seconds of this rank, by phase.
struct StepSeconds {
  double forward = 0;   // with the exchanges of attention
  double backward = 0;  // likewise
  double reduce = 0;    // gradients, norm and totals, waiting for the slowest rank included
  double update = 0;    // clipping, optimizer, new weights gathered
};

struct StepTotals {                   // over all ranks and micro-batches
  double loss_sum = 0;                // of token losses
  int64_t labels = 0;                 // that were counted
  int64_t tokens = 0;                 // of input, without padding
  double sum_of_squared_lengths = 0;  // of documents: attention's share of the work
  double grad_norm = 0;               // of the mean loss's gradient, before clipping
  StepSeconds seconds;                // of this rank
  bool stop = false;                  // some rank was asked to stop
};

struct StepOptions {
  double max_grad_norm = 1.0;            // 0: no clipping
  std::function<void(double)> progress;  // told the fraction of the step that is done; may be empty
  std::function<bool()> stop_requested;  // asked once, when the gradients are there; may be empty
  std::function<void(const BatchPlan&)> planned =
      {};  // told the plan of each micro-batch with rows; may be empty
};

// Bytes that this rank sends in one train_step, by the formulas of docs/architecture.md ("Bytes"), attention's
// (predicted_attention_bytes of its micro-batches) apart.
int64_t predicted_step_bytes(DeviceMesh& mesh, const ParameterShards& shards);

// `shards` hold the decoder's parameters over mesh.sequence_data(), their gradients zero on entry and on
// return; `optimizer` was made from their entries, `plans` by apply_parallelism. Collective over the mesh. Throws NumericsError on every
// rank, before the update, when a loss or gradient is not finite.
StepTotals train_step(Decoder& decoder, PlanCache& plans, ParameterShards& shards, Optimizer& optimizer,
                      DeviceMesh& mesh, const std::vector<Batch>& micro_batches, double learning_rate,
                      const StepOptions& options);

}  // namespace ithaca
