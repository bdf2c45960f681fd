// Held-out loss: token-weighted over all rows, the same under every layout up to rounding.
#pragma once
#include <cstdint>
#include <functional>

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

// Rows are dealt to the data replicas in turn, `batch_size` at a time, and each cut over its sequence group.
// Collective over the mesh; every rank gets the result. No gradients are touched. `progress` gets the
// fraction done; may be empty.
EvalResult evaluate(Decoder& decoder, const Dataset& dataset, DeviceMesh& mesh, int64_t batch_size,
                    const std::function<void(double)>& progress);

}  // namespace ithaca
