// What each rank of one sequence holds, computes and sends under a plan, by the same arithmetic that the run uses
// (config/layout.h). For rows without padding and of one document each; block-sparse patterns count as dense.
#pragma once
#include <cstdint>
#include <vector>

#include "ithaca/config/layout.h"
#include "ithaca/config/sequence_plan.h"

namespace ithaca {

struct RankLoad {
  int64_t ring_index = 0, ulysses_index = 0;
  RowSet rows;              // tokens that it holds
  Share q_heads, kv_heads;  // that it computes
  double pairs = 0;  // of query, key and head, in one row: its attention work; beyond int64 at 2^30 tokens
  int64_t forward = 0, backward = 0;  // bytes that it sends in one layer and micro-batch
  int64_t repeated = 0;               // of `forward`, once more under gradient_checkpointing full
};

// What a larger ring sends is not worked out: every pair of its ranks would be looked at.
inline constexpr int64_t kMaxRingWorkedOut = 64;

// By rank of the sequence. Where plan.ring is above kMaxRingWorkedOut, bytes are those of Ulysses alone.
std::vector<RankLoad> sequence_loads(const SequencePlan& plan, const Settings& settings,
                                     const ModelConfig& model);
// The largest `pairs` over their mean.
double imbalance(const std::vector<RankLoad>& loads);

}  // namespace ithaca
