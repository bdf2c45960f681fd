// The commands of `ithaca-engine`: each runs on every rank and returns the exit code.
#pragma once
#include "ithaca/train/trainer.h"

namespace ithaca {

struct EngineContext {
  const ResolvedSettings& settings;
  const RankEnvironment& environment;
  Communicator& world;
  Logger& logger;
  StopSignal& stop;
};

int train_command(const EngineContext& context);
int eval_command(const EngineContext& context);
int generate_command(const EngineContext& context);

}  // namespace ithaca
