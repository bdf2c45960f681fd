// What a training run remembers besides weights, optimizer and log: position, and the sums of the log line in
// progress. It goes into each checkpoint.
#pragma once
#include <cstdint>
#include <string>

#include "ithaca/base/json.h"

namespace ithaca {

struct RunState {
  int64_t step = 0;         // updates done
  int64_t tokens_seen = 0;  // input tokens without padding, all ranks
  double total_flops = 0;
  double loss_sum = 0;      // over all steps: of step means, for train_loss
  double log_loss_sum = 0;  // token losses since the last logged line
  int64_t log_labels = 0;

  // Numbers keep their exact bits.
  Json to_json() const;
  // From the "run" of a saved state. UserError names `source` when it is not one.
  static RunState from_json(const Json& saved, const std::string& source);
};

}  // namespace ithaca
