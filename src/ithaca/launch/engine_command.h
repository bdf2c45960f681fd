// The engine's command line and environment, ready for exec: made before a fork, so that the child allocates
// nothing.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "ithaca/launch/spawn.h"

namespace ithaca {

using Variables = std::map<std::string, std::string>;

class EngineCommand {
 public:
  // This process's environment with `changes` and what libraries are to be told (libgomp, c10d; the user's own
  // values stay).
  EngineCommand(const SpawnOptions& options, Variables changes);
  EngineCommand(const EngineCommand&) = delete;
  EngineCommand& operator=(const EngineCommand&) = delete;
  // Returns only when it fails, with errno.
  void exec() const;

 private:
  std::vector<std::string> words_, settings_;
  std::vector<char*> argv_, environment_;
};

// Stop signals stay blocked across exec for a program that asks for them (the engine: arguments[0] is train, eval or
// generate), so that one that comes while its libraries load is not lost, nor the end of it.
void hold_stop_signals(const SpawnOptions& options);

// UserError for numbers below 1 and for a program that cannot be run.
void check_spawn_options(const SpawnOptions& options);

}  // namespace ithaca
