#include "ithaca/eval/perplexity.h"

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ithaca/parallel/plan.h"

namespace ithaca {

double EvalResult::eval_loss() const {
  return labels == 0 ? std::numeric_limits<double>::quiet_NaN() : loss_sum / static_cast<double>(labels);
}
double EvalResult::perplexity() const {
  return std::exp(eval_loss());
}

namespace {

bool any_rank_stops(const std::function<bool()>& stop_requested, DeviceMesh& mesh) {
  if (!stop_requested) return false;
  at::Tensor flag = at::full({1}, stop_requested() ? 1 : 0, at::kByte);
  mesh.world().all_reduce(flag, ReduceOp::kMax);
  return flag.item<uint8_t>() != 0;
}

}  // namespace

std::optional<EvalResult> evaluate(Decoder& decoder, const Dataset& dataset, DeviceMesh& mesh,
                                   const EvalOptions& options) {
  c10::NoGradGuard no_grad;
  Communicator& sequence = mesh.sequence();
  const int64_t replica = mesh.coordinate(Axis::kData),
                rows_a_round = mesh.degrees().data * options.batch_size;
  double loss_sum = 0;
  int64_t labels = 0;
  // Every rank makes every round, also one without rows for it: the flag is asked of all.
  for (int64_t round = 0; round < dataset.size(); round += rows_a_round) {
    if (any_rank_stops(options.stop_requested, mesh)) return std::nullopt;
    const int64_t first = round + replica * options.batch_size;
    if (first >= dataset.size()) continue;
    std::vector<int64_t> rows(std::min(options.batch_size, dataset.size() - first));
    std::iota(rows.begin(), rows.end(), first);
    const Batch batch = dataset.batch(rows);
    const SequenceShard shard =
        shard_batch(batch, sequence_grid(mesh.degrees()), sequence.rank(), decoder.pattern);
    loss_sum += decoder.loss_sum(shard.input, shard.labels).item<double>();
    if (sequence.rank() == 0) labels += batch.num_labels;  // counted once for the group
    if (options.progress)
      options.progress(static_cast<double>(first + 1) / static_cast<double>(dataset.size()));
  }
  at::Tensor totals = at::tensor({loss_sum, static_cast<double>(labels)}, at::kDouble);
  mesh.world().all_reduce(totals);
  const double* values = totals.const_data_ptr<double>();
  return EvalResult{values[0], static_cast<int64_t>(values[1])};
}

}  // namespace ithaca
