// The layout of a run as data: degrees, from settings and the number of ranks. No device, no process group.
#pragma once
#include "ithaca/comm/device_mesh.h"
#include "ithaca/config/settings.h"

namespace ithaca {

struct ParallelPlan {
  MeshDegrees degrees;
  bool activation_checkpoint = false;
};

// data = world / sequence_parallel_size. The settings have passed check_settings.
ParallelPlan make_plan(const Settings& settings, int world_size);

}  // namespace ithaca
