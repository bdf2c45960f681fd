#include "tests/parity/model_case.h"

#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/autograd.h>
#include <array>

#include <cmath>

#include "ithaca/base/error.h"
#include "ithaca/comm/device_mesh.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/apply.h"
#include "ithaca/parallel/sequence/layout.h"
#include "ithaca/parallel/zero/shards.h"
#include "ithaca/train/step.h"

namespace ithaca::parity {
namespace {

constexpr double kLearningRate = 0.5;

bool equal(double a, double b) {
  return std::abs(a - b) <= kTolerance * std::max(1.0, std::abs(b));
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>() / std::max(1.0, b.abs().max().item<double>());
}

}  // namespace

std::string Case::text() const {
  constexpr std::array kSights = {"causal", "all", "window", "alibi", "sparse", "mask"};
  constexpr std::array kCheckpoints = {"", " full", " keep_attention"};
  return str("data=", data, " ulysses=", ulysses, " ring=", ring, ring_inner ? " ring_inner" : "",
             ring_method == RingMethod::kAllGatherKv ? " kv_allgather" : "",
             " cp_window_size=", cp_window_size, " ulysses_chunks=", ulysses_chunks, " heads=", shape.heads.q,
             "/", shape.heads.kv, " length=", length, " ", name_of(documents), " ",
             kSights[static_cast<std::size_t>(sight)], kCheckpoints[static_cast<std::size_t>(checkpoint)],
             shape.tied ? " tied" : "", micro_batches > 1 ? str(" micro_batches=", micro_batches) : "",
             backend == AttentionBackend::kNaive  ? " naive"
             : backend == AttentionBackend::kAten ? " aten"
                                                  : "");
}

AttentionPattern pattern_of(const Case& c) {
  AttentionPattern pattern;
  pattern.causal = c.sight != Sight::kAll;
  if (c.sight == Sight::kWindow) pattern.window = 5;
  if (c.sight == Sight::kAlibi) pattern.alibi_slopes = alibi_slopes(c.shape.heads.q);
  if (c.sight == Sight::kSparse)
    pattern.sparse = {
        .block = 3, .num_local_blocks = 2, .num_global_blocks = 1, .mask_blocks = 0, .mask = {}};
  if (c.sight == Sight::kMask) {
    pattern.sparse.block = 4;
    pattern.sparse.mask_blocks = (c.length + 3) / 4;
    for (int64_t i = 0; i < pattern.sparse.mask_blocks * pattern.sparse.mask_blocks; ++i)
      pattern.sparse.mask.push_back(i % (pattern.sparse.mask_blocks + 1) == 0 ||
                                    i % 3 == 0);  // its own, and some
  }
  return pattern;
}

std::vector<Batch> micro_batches_of(const Case& c) {
  std::vector<Batch> batches{make_batch(3, c.length, c.documents, 11)};
  for (int m = 1; m < c.micro_batches; ++m) {
    // Shorter and longer ones in turn, and more and more of them without a label.
    Batch batch =
        make_batch(3, c.length + (m % 2 == 0 ? 3 * m : -2 * m), c.documents, 11 + static_cast<uint64_t>(m));
    batch.labels.narrow(1, 0, m + 1).fill_(kNoLabel);
    batch.num_labels = batch.labels.ne(kNoLabel).sum().item<int64_t>();
    batches.push_back(batch);
  }
  if (c.only >= 0) return {batches[static_cast<std::size_t>(c.only)]};
  return batches;
}

// Replicas may hold different numbers of rows, one of them none.
std::vector<Batch> batches_of_replica(const Case& c, int replica) {
  std::vector<Batch> mine;
  for (const Batch& global : micro_batches_of(c)) {
    const std::vector<int64_t> shares = contiguous_split(global.input_ids.size(0), c.data);
    int64_t begin = 0;
    for (int d = 0; d < replica; ++d) begin += shares[d];
    mine.push_back(rows_of(global, begin, shares[replica]));
  }
  return mine;
}

Outcome run_rank(const Case& c, Communicator& world) {
  DeviceMesh mesh(world, {.ulysses = c.ulysses, .ring = c.ring, .data = c.data, .ring_inner = c.ring_inner});
  auto decoder = make_model(c.shape);
  decoder->pattern = pattern_of(c);
  ParameterShards shards(decoder->parameters(), mesh.sequence_data());
  const ParallelPlan plan{
      mesh.degrees(), {c.backend, c.ring_method, c.cp_window_size, c.ulysses_chunks}, c.checkpoint};
  const std::shared_ptr<PlanCache> plans = apply_parallelism(*decoder, plan, mesh);
  const std::vector<Batch> mine = batches_of_replica(c, mesh.coordinate(Axis::kData));

  Outcome outcome;
  const auto predict = [&](const BatchPlan& batch) {
    outcome.bytes_predicted += predicted_attention_bytes(*decoder, plan, mesh.sequence().rank(), batch);
  };
  for (const Batch& batch : mine) {
    if (batch.input_ids.numel() == 0) continue;
    const int64_t sent_before = mesh.bytes_sent();
    const SequenceShard shard = shard_planned(batch, *decoder, sequence_grid(mesh.degrees()),
                                              mesh.sequence().rank(), *plans, predict);
    const at::Tensor loss = decoder->loss_sum(shard.input, shard.labels);
    torch::autograd::backward({loss}, {});
    outcome.bytes += mesh.bytes_sent() - sent_before;
  }
  for (Parameter* p : decoder->parameters()) {
    outcome.gradients.push_back(p->grad.clone());
    mesh.sequence_data().all_reduce(outcome.gradients.back());
  }
  shards.clear_gradients();

  Optimizer optimizer({.kind = OptimizerOptions::Kind::kSgd}, shards.entries());
  const int64_t sent_before_step = mesh.bytes_sent();
  const int64_t plans_before = plans->plans_made();
  int64_t planned = 0;
  const StepTotals totals =
      train_step(*decoder, *plans, shards, optimizer, mesh, mine, kLearningRate,
                 {.max_grad_norm = 0, .progress = {}, .stop_requested = {}, .planned = [&](const BatchPlan&) {
                    ++planned;
                  }});
  outcome.step_bytes = mesh.bytes_sent() - sent_before_step;
  outcome.step_bytes_predicted = outcome.bytes_predicted + predicted_step_bytes(mesh, shards);
  outcome.plans_made = plans->plans_made() - plans_before;
  outcome.micro_batches = planned;
  outcome.loss_sum = totals.loss_sum;
  outcome.grad_norm = totals.grad_norm;
  outcome.labels = totals.labels;
  outcome.tokens = totals.tokens;
  for (Parameter* p : decoder->parameters()) outcome.updated.push_back(p->value.clone());
  return outcome;
}

Outcome run_single(const Case& c) {
  Case single = c;
  single.data = single.ulysses = single.ring = single.cp_window_size = single.ulysses_chunks = 1;
  single.checkpoint = CheckpointMode::kNone;
  single.backend = AttentionBackend::kNaive;
  Outcome outcome;
  run_thread_ranks(1, [&](Communicator& world) { outcome = run_rank(single, world); });
  return outcome;
}

std::vector<std::string> differences(const Outcome& got, const Outcome& expected) {
  std::vector<std::string> lines;
  if (got.bytes != got.bytes_predicted)
    lines.push_back(str("bytes sent ", got.bytes, ", formula ", got.bytes_predicted));
  if (got.step_bytes != got.step_bytes_predicted)
    lines.push_back(str("bytes sent in a step ", got.step_bytes, ", formula ", got.step_bytes_predicted));
  if (got.plans_made > got.micro_batches)
    lines.push_back(str(got.plans_made, " plans made for ", got.micro_batches, " micro-batches"));
  if (got.labels != expected.labels)
    lines.push_back(str("labels ", got.labels, ", expected ", expected.labels));
  if (got.tokens != expected.tokens)
    lines.push_back(str("tokens ", got.tokens, ", expected ", expected.tokens));
  if (!equal(got.loss_sum, expected.loss_sum))
    lines.push_back(str("loss ", got.loss_sum, ", expected ", expected.loss_sum));
  if (!equal(got.grad_norm, expected.grad_norm))
    lines.push_back(str("grad norm ", got.grad_norm, ", expected ", expected.grad_norm));
  if (got.gradients.size() != expected.gradients.size() || got.gradients.empty())
    lines.push_back("not the same parameters");
  for (std::size_t i = 0; i < got.gradients.size() && i < expected.gradients.size(); ++i) {
    const double gradient = difference(got.gradients[i], expected.gradients[i]);
    const double updated = difference(got.updated[i], expected.updated[i]);
    if (!(gradient <= kTolerance)) lines.push_back(str("gradient ", i, " is off by ", gradient));
    if (!(updated <= kTolerance)) lines.push_back(str("parameter ", i, " is off by ", updated));
  }
  return lines;
}

}  // namespace ithaca::parity
