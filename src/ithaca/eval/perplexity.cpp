#include "ithaca/eval/perplexity.h"

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

EvalResult evaluate(Decoder& decoder, const Dataset& dataset, DeviceMesh& mesh, int64_t batch_size,
                    const std::function<void(double)>& progress) {
  c10::NoGradGuard no_grad;
  Communicator& sequence = mesh.sequence();
  const int64_t replica = mesh.coordinate(Axis::kData), replicas = mesh.degrees().data;
  double loss_sum = 0;
  int64_t labels = 0;
  for (int64_t first = replica * batch_size; first < dataset.size(); first += replicas * batch_size) {
    std::vector<int64_t> rows(std::min(batch_size, dataset.size() - first));
    std::iota(rows.begin(), rows.end(), first);
    const Batch batch = dataset.batch(rows);
    const SequenceShard shard =
        shard_batch(batch, sequence_grid(mesh.degrees()), sequence.rank(), decoder.pattern);
    loss_sum += decoder.loss_sum(shard.input, shard.labels).item<double>();
    if (sequence.rank() == 0) labels += batch.num_labels;  // counted once for the group
    if (progress) progress(static_cast<double>(first + 1) / static_cast<double>(dataset.size()));
  }
  at::Tensor totals = at::tensor({loss_sum, static_cast<double>(labels)}, at::kDouble);
  mesh.world().all_reduce(totals);
  const double* values = totals.const_data_ptr<double>();
  return {values[0], static_cast<int64_t>(values[1])};
}

}  // namespace ithaca
