#include "ithaca/train/step.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>
#include <cmath>
#include <utility>

#include "ithaca/base/error.h"
#include "ithaca/comm/cost.h"
#include "ithaca/optim/clip.h"
#include "ithaca/parallel/apply.h"
#include "ithaca/parallel/sequence/layout.h"

namespace ithaca {
namespace {

class Stopwatch {
 public:
  double lap() {  // seconds since the last lap
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

constexpr int64_t kTotals = 6;  // float64 values in the one small all-reduce of a step

// Flags are summed too: above zero means that some rank raised it.
StepTotals all_reduce_totals(const StepTotals& mine, double sum_of_squares, DeviceMesh& mesh) {
  at::Tensor values =
      at::tensor({mine.loss_sum, static_cast<double>(mine.labels), static_cast<double>(mine.tokens),
                  mine.sum_of_squared_lengths, mine.stop ? 1.0 : 0.0, sum_of_squares},
                 at::kDouble);
  ITHACA_CHECK(values.numel() == kTotals);
  mesh.world().all_reduce(values);
  const double* v = values.const_data_ptr<double>();
  StepTotals totals;
  totals.loss_sum = v[0];
  totals.labels = static_cast<int64_t>(v[1]);
  totals.tokens = static_cast<int64_t>(v[2]);
  totals.sum_of_squared_lengths = v[3];
  totals.stop = v[4] > 0;
  totals.grad_norm = std::sqrt(v[5]) / static_cast<double>(std::max<int64_t>(totals.labels, 1));
  return totals;
}

double sum_of_squared_lengths(const Batch& batch) {
  double sum = 0;
  for (const std::vector<int64_t>& bounds : batch.documents)
    for (std::size_t i = 1; i < bounds.size(); ++i) {
      const auto length = static_cast<double>(bounds[i] - bounds[i - 1]);
      sum += length * length;
    }
  return sum;
}

// Every rank gets here with the same totals; names the ranks whose own loss is not finite.
[[noreturn]] void report_not_finite(double my_loss, double grad_norm, DeviceMesh& mesh) {
  at::Tensor losses = at::empty({mesh.world().size()}, at::kDouble);
  mesh.world().all_gather(losses, at::tensor({my_loss}, at::kDouble));
  std::string ranks;
  for (int r = 0; r < mesh.world().size(); ++r) {
    const double loss = losses.const_data_ptr<double>()[r];
    if (!std::isfinite(loss)) ranks += str(ranks.empty() ? "" : ", ", r, " (", loss, ")");
  }
  throw NumericsError(str(
      "the step was not applied: ",
      ranks.empty() ? str("the gradient norm is ", grad_norm) : "the loss is not finite on rank " + ranks,
      "; the weights are those of the step before. Try a smaller learning_rate, or float32 instead of bf16"));
}

}  // namespace

int64_t predicted_step_bytes(DeviceMesh& mesh, const ParameterShards& shards) {
  return shards.step_bytes() +
         all_reduce_cost(mesh.world().size(), mesh.world().rank(), kTotals, sizeof(double)).bytes;
}

StepTotals train_step(Decoder& decoder, PlanCache& plans, ParameterShards& shards, Optimizer& optimizer,
                      DeviceMesh& mesh, const std::vector<Batch>& micro_batches, double learning_rate,
                      const StepOptions& options) {
  Communicator& sequence = mesh.sequence();
  StepTotals mine;
  Stopwatch watch;
  for (std::size_t m = 0; m < micro_batches.size(); ++m) {
    const Batch& batch = micro_batches[m];
    // The end of an epoch may leave nothing for a replica; its whole sequence group skips.
    if (batch.input_ids.numel() == 0) continue;
    const SequenceShard shard =
        shard_planned(batch, decoder, sequence_grid(mesh.degrees()), sequence.rank(), plans, options.planned);
    const at::Tensor loss = decoder.loss_sum(shard.input, shard.labels);
    mine.seconds.forward += watch.lap();
    torch::autograd::backward({loss}, {});
    mine.seconds.backward += watch.lap();
    mine.loss_sum += loss.item<double>();
    if (sequence.rank() == 0) {  // counted once for the group
      mine.labels += batch.num_labels;
      mine.tokens += batch.num_tokens;
      mine.sum_of_squared_lengths += sum_of_squared_lengths(batch);
    }
    if (options.progress)
      options.progress(static_cast<double>(m + 1) / static_cast<double>(micro_batches.size()));
  }

  shards.reduce_gradients();
  mine.stop = options.stop_requested && options.stop_requested();
  StepTotals totals = all_reduce_totals(mine, shards.sum_of_squares(), mesh);
  totals.seconds = mine.seconds;
  totals.seconds.reduce = watch.lap();
  if (!std::isfinite(totals.loss_sum) || !std::isfinite(totals.grad_norm))
    report_not_finite(mine.loss_sum, totals.grad_norm, mesh);

  const double count = static_cast<double>(std::max<int64_t>(totals.labels, 1));
  shards.scale_gradients(clip_factor(totals.grad_norm, options.max_grad_norm) / count);
  optimizer.step(learning_rate);
  shards.gather_values();
  shards.clear_gradients();
  totals.seconds.update = watch.lap();
  return totals;
}

}  // namespace ithaca
