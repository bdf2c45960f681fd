// Which method of sequence parallelism a run uses, with which degrees, and why: from settings, the model's heads and
// the number of ranks. Arithmetic only. The estimate knows attention and its traffic, nothing else of a layer,
// since that is the same under every method.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "ithaca/config/settings.h"

namespace ithaca {

enum class SequenceMethod { kUlysses, kRing, kHybrid, kKvAllgather };

struct SequencePlan {
  SequenceMethod method = SequenceMethod::kUlysses;  // kUlysses of degree 1 where a rank has its own sequence
  int64_t ulysses = 1, ring = 1;  // degrees, product sequence_parallel_size; kKvAllgather: 1 and the size
  bool ulysses_inner = true;      // rank = ring index * ulysses + ulysses index; else the other way round
  int64_t inner_ring = 1;         // cp_window_size; above 1: a double ring, inner_ring divides ring
  std::string reason = {};        // one sentence without a full stop, for `ithaca check` and the log

  // "ulysses", "ring", "double_ring", "hybrid", "kv_allgather"
  std::string method_name() const;
  // "double_ring 4 (inner ring 2)", "hybrid ring 4 x ulysses 2"
  std::string title() const;
};

// What the estimate reckons with. Times are for one rank.
struct SequenceCosts {
  double attention_flops;          // a second, of the attention kernel in float32
  double attention_flops_bf16;     // the same in bf16
  double local_bytes, wire_bytes;  // a second, sent by one rank: to its own machine, to another
  double message_seconds;          // until the first byte of an exchange has arrived
  double block_seconds;            // of every further block of a ring, whatever its size
  double block_overhead;  // share of attention's time, for each doubling of the ring: smaller blocks to merge
};
// A core of a server processor; ranks of one machine share memory, others are 25 Gbit/s away.
inline constexpr SequenceCosts kCpuCosts = {
    .attention_flops = 80e9,
    .attention_flops_bf16 = 150e9,
    .local_bytes = 3e9,
    .wire_bytes = 2.5e9,
    .message_seconds = 50e-6,
    .block_seconds = 200e-6,
    .block_overhead = 0.03,
};

// Seconds of attention in one layer, forward and backward, of one micro-batch, on the slowest rank.
double estimated_attention_seconds(const SequencePlan& plan, const Settings& settings,
                                   const ModelConfig& model, int64_t ranks_per_node,
                                   const SequenceCosts& costs = kCpuCosts);

// The plan of settings that have passed check_settings and check_model_layout. `auto`:
//  - heads that divide over the ranks of one machine: Ulysses;
//  - rows packed from many documents, no more ranks than query heads: Ulysses (its balance does not depend on them);
//  - else the cheapest by the estimate of every ulysses x ring degree with that product and ulysses <= heads.
// ranks_per_node must be the same on every rank.
SequencePlan plan_sequence(const Settings& settings, const ModelConfig& model, int64_t ranks_per_node,
                           const SequenceCosts& costs = kCpuCosts);

// Every plan whose degrees multiply to sequence_parallel_size (above 1) and that the settings allow for a model of so
// many query heads, the largest Ulysses degree first; without reasons. Empty: the settings contradict themselves
// or the heads.
std::vector<SequencePlan> sequence_candidates(const Settings& settings, int64_t heads);

// The problems between the settings of sequence parallelism, and with the model's heads; flags as typed.
void check_sequence_settings(const ResolvedSettings& settings, Problems& problems);
void check_sequence_heads(const ResolvedSettings& settings, const ModelConfig& model, Problems& problems);

}  // namespace ithaca
