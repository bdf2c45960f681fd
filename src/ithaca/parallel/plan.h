// The layout of a run as data: degrees and methods, from settings, model and the number of ranks. No device, no
// process group.
#pragma once
#include "ithaca/comm/device_mesh.h"
#include "ithaca/config/sequence_plan.h"
#include "ithaca/parallel/memory/activation_checkpoint.h"
#include "ithaca/parallel/sequence/layout.h"
#include "ithaca/parallel/sequence/sequence_attention.h"

namespace ithaca {

struct ParallelPlan {
  MeshDegrees degrees;
  SequenceAttentionOptions attention;
  CheckpointMode activation_checkpoint = CheckpointMode::kNone;
};

inline SequenceGrid sequence_grid(const MeshDegrees& degrees) {
  return {degrees.ulysses, degrees.ring, degrees.ring_inner};
}

// data = world / sequence_parallel_size. The settings have passed check_settings and check_model_layout.
ParallelPlan make_plan(const Settings& settings, const SequencePlan& sequence, int world_size);

}  // namespace ithaca
