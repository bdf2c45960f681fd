#include "ithaca/parallel/apply.h"

#include "ithaca/config/layout.h"
#include "ithaca/parallel/sequence/layout.h"
#include "ithaca/parallel/sequence/ulysses.h"

namespace ithaca {

std::shared_ptr<PlanCache> apply_parallelism(Decoder& decoder, const ParallelPlan& plan, DeviceMesh& mesh) {
  split_heads(decoder.layers.front().self_attn.heads,
              plan.degrees.ulysses);  // refuses a degree above the heads
  // One core for all layers: they share the plan of the batch at hand.
  auto plans =
      std::make_shared<PlanCache>(plan.degrees.ulysses, plan.degrees.ring, plan.attention.cp_window_size);
  const AttentionCore core =
      sequence_attention(mesh.group(Axis::kUlysses), mesh.group(Axis::kRing), plan.attention, plans);
  for (DecoderLayer& layer : decoder.layers) layer.self_attn.core = core;
  decoder.run_layer = checkpointed(decoder.run_layer, plan.activation_checkpoint);
  return plans;
}

SequenceShard shard_planned(const Batch& batch, const Decoder& decoder, const SequenceGrid& grid,
                            int sequence_rank, PlanCache& plans,
                            const std::function<void(const BatchPlan&)>& planned) {
  const std::shared_ptr<const BatchPlan> plan =
      plans.get(pattern_of_batch(decoder.pattern, batch), batch.input_ids.size(0));
  if (planned) planned(*plan);
  // The plan counts a grid's ranks with Ulysses inside.
  const int rank = grid.ring_index(sequence_rank) * grid.ulysses + grid.ulysses_index(sequence_rank);
  return shard_batch(batch, plan->pattern, plan->layout, rank);
}

int64_t predicted_attention_bytes(const Decoder& decoder, const ParallelPlan& plan, int sequence_rank,
                                  const BatchPlan& batch) {
  const SequenceGrid grid = sequence_grid(plan.degrees);
  if (grid.size() == 1) return 0;
  const SequenceScheme scheme{.ulysses = grid.ulysses,
                              .ring = grid.ring,
                              .inner_ring = plan.attention.cp_window_size,
                              .ulysses_chunks = plan.attention.ulysses_chunks,
                              .all_gather_kv = plan.attention.ring_method == RingMethod::kAllGatherKv};
  const int64_t copies = batch.slices.size() == 1 ? batch.batch : 1;
  const LayerTraffic layer =
      sequence_traffic(decoder.config, scheme, batch.batch, batch.layout.length(), batch.up, batch.down,
                       copies, static_cast<int64_t>(c10::elementSize(decoder.dtype())),
                       grid.ulysses_index(sequence_rank), grid.ring_index(sequence_rank));
  const bool repeats = plan.activation_checkpoint == CheckpointMode::kFull;
  return static_cast<int64_t>(decoder.layers.size()) *
         (layer.forward + layer.backward + (repeats ? layer.inbound : 0));
}

double attention_imbalance(const Decoder& decoder, const ParallelPlan& plan, const BatchPlan& batch) {
  const SequenceGrid grid = sequence_grid(plan.degrees);
  if (grid.size() == 1) return 1;
  // Every rank of a ring rank's Ulysses group has its heads of the same pairs; the first has most of them.
  const int64_t heads = decoder.config.num_attention_heads;
  const auto most = static_cast<double>(even_split(heads, grid.ulysses, 0).count * grid.ulysses);
  return imbalance(batch.layout, batch.pattern) * most / static_cast<double>(heads);
}

}  // namespace ithaca
