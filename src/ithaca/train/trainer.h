// Causal language-model training from settings to an output folder: data, model, layout, loop, checkpoints,
// results.
#pragma once
#include "ithaca/base/error.h"
#include "ithaca/base/log.h"
#include "ithaca/comm/communicator.h"
#include "ithaca/config/settings.h"
#include "ithaca/launch/environment.h"
#include "ithaca/train/stop_signal.h"

namespace ithaca {

struct TrainContext {
  const ResolvedSettings& settings;  // have passed check_settings
  const RankEnvironment& environment;
  Communicator& world;
  Logger& logger;
  StopSignal& stop;
};

// Collective over the world; output_dir is there. Returns kDone, or kStoppedAndSaved after a stop signal: the step is finished and
// saved as a checkpoint. Throws the errors of base/error.h.
ExitCode train(const TrainContext& context);

}  // namespace ithaca
