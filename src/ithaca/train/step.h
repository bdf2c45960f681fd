// One training step, as a sentence: micro-batches -> cut for this rank -> loss sum -> backward -> gradients
// summed over ranks -> one small all-reduce -> scale and clip -> AdamW. Contract "Loss and gradients" of
// docs/architecture.md: sums everywhere, one division by the step's global count of labels.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "ithaca/comm/device_mesh.h"
#include "ithaca/data/batch.h"
#include "ithaca/models/decoder.h"
#include "ithaca/optim/optimizer.h"
#include "ithaca/parallel/plan.h"

namespace ithaca {

// Wall seconds of this rank, by phase.
struct StepSeconds {
  double forward = 0;   // with the exchanges of attention
  double backward = 0;  // likewise
  double reduce = 0;    // gradients and totals, waiting for the slowest rank included
  double update = 0;    // norm, clipping, optimizer
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
};

// Bytes that this rank sends in one train_step over `micro_batches`, by the formulas of docs/architecture.md
// ("Bytes").
int64_t predicted_step_bytes(const Decoder& decoder, const ParallelPlan& plan, DeviceMesh& mesh,
                             const at::Tensor& gradients, const std::vector<Batch>& micro_batches);

// `gradients` is the flat buffer of the decoder's parameters (allocate_gradients), zero on entry and on
// return. Collective over the mesh. Throws NumericsError on every rank, before the update, when a loss or
// gradient is not finite.
StepTotals train_step(Decoder& decoder, at::Tensor& gradients, Optimizer& optimizer, DeviceMesh& mesh,
                      const std::vector<Batch>& micro_batches, double learning_rate,
                      const StepOptions& options);

}  // namespace ithaca
