#include "ithaca/parallel/plan.h"

namespace ithaca {

ParallelPlan make_plan(const Settings& settings, int world_size) {
  ParallelPlan plan;
  plan.degrees.ulysses = static_cast<int>(settings.sequence_parallel_size);
  plan.degrees.data = world_size / plan.degrees.ulysses;
  plan.activation_checkpoint = settings.gradient_checkpointing != "false";
  return plan;
}

}  // namespace ithaca
