#include "ithaca/parallel/plan.h"

namespace ithaca {

ParallelPlan make_plan(const Settings& settings, const SequencePlan& sequence, int world_size) {
  ParallelPlan plan;
  plan.degrees.ulysses = static_cast<int>(sequence.ulysses);
  plan.degrees.ring = static_cast<int>(sequence.ring);
  plan.degrees.ring_inner = !sequence.ulysses_inner;
  plan.degrees.data = world_size / plan.degrees.sequence();
  plan.attention.backend = attention_backend_from_name(settings.attention);
  if (sequence.method == SequenceMethod::kKvAllgather) plan.attention.ring_method = RingMethod::kAllGatherKv;
  plan.attention.cp_window_size = static_cast<int>(sequence.inner_ring);
  plan.attention.ulysses_chunks = static_cast<int>(settings.ulysses_chunks);
  plan.activation_checkpoint = checkpoint_mode_from_name(settings.gradient_checkpointing);
  return plan;
}

}  // namespace ithaca
