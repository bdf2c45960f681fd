// Held-out loss: token-weighted over all rows, the same under every layout up to rounding.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>

#include "ithaca/comm/device_mesh.h"
#include "ithaca/data/dataset.h"
#include "ithaca/models/decoder.h"

namespace ithaca {

struct EvalResult {
  double loss_sum = 0;
  int64_t labels = 0;
  double eval_loss() const;   // mean over labels; NaN when there is none
  double perplexity() const;  // exp(eval_loss)
};

struct EvalOptions {
  int64_t batch_size = 8;                // rows a replica takes at a time
  std::function<void(double)> progress;  // gets the fraction done; may be empty
  // Asked before each round of batches; true on any rank ends the evaluation on all. Set on every rank or on
  // none: where it is, each round has one small all-reduce.
  std::function<bool()> stop_requested;
};

// Rows are dealt to the data replicas in turn, `batch_size` at a time, and each cut over its sequence group.
// Collective over the mesh; every rank gets the result, or nothing where the evaluation was given up. No
// gradients are touched.
std::optional<EvalResult> evaluate(Decoder& decoder, const Dataset& dataset, DeviceMesh& mesh,
                                   const EvalOptions& options);

}  // namespace ithaca
