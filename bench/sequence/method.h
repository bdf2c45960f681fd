// The methods of sequence parallelism by name, as the programs of this folder take them.
#pragma once
#include <string>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/config/layout.h"
#include "ithaca/parallel/plan.h"

namespace ithaca::bench {

inline const std::vector<std::string> kMethods = {"ulysses", "ring", "hybrid", "double_ring", "kv_allgather"};

// A hybrid has a Ulysses degree of 2, a double ring an inner ring of 2: both need 4 ranks, an even number.
inline bool fits(const std::string& method, int ranks) {
  return (method != "hybrid" && method != "double_ring") || (ranks >= 4 && ranks % 2 == 0);
}

inline ParallelPlan plan_of(const std::string& method, int ranks) {
  ParallelPlan plan;
  if (method == "ulysses") {
    plan.degrees.ulysses = ranks;
  } else if (method == "hybrid") {
    plan.degrees.ulysses = 2;
    plan.degrees.ring = ranks / 2;
  } else if (method == "ring" || method == "double_ring" || method == "kv_allgather") {
    plan.degrees.ring = ranks;
    if (method == "double_ring") plan.attention.cp_window_size = 2;
    if (method == "kv_allgather") plan.attention.ring_method = RingMethod::kAllGatherKv;
  } else {
    throw UserError("the method is one of ulysses, ring, hybrid, double_ring, kv_allgather, not " + method);
  }
  return plan;
}

inline SequenceScheme scheme_of(const ParallelPlan& plan) {
  return {.ulysses = plan.degrees.ulysses,
          .ring = plan.degrees.ring,
          .inner_ring = plan.attention.cp_window_size,
          .ulysses_chunks = plan.attention.ulysses_chunks,
          .all_gather_kv = plan.attention.ring_method == RingMethod::kAllGatherKv};
}

}  // namespace ithaca::bench
