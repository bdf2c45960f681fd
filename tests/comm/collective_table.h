// One table of collective calls that every backend must pass: inputs that each rank can work out for all
// ranks, expected results by plain ATen arithmetic in one process.
#pragma once
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>

#include "ithaca/comm/communicator.h"

namespace ithaca {

struct TableResult {
  int calls = 0;      // compared results
  std::string bytes;  // all outputs of this rank, for comparing backends bit by bit
};

// Collective. Throws std::runtime_error that names the call whose result, or whose counted bytes, are wrong.
TableResult run_collective_table(Communicator& world, c10::ScalarType dtype);

}  // namespace ithaca
