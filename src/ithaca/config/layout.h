// What each rank of a sequence-parallel group holds and sends, as arithmetic: for `ithaca check`, and for
// tests to compare with. Shape letters: B batch, S tokens, H query heads, K kv heads, D head size.
#pragma once
#include <cstdint>

#include "ithaca/base/split.h"
#include "ithaca/config/model_config.h"

namespace ithaca {

// The kv heads that these query heads read: query head h reads floor(h * K / H).
Share kv_heads_of(Share query_heads, int64_t q_total, int64_t kv_total);

struct UlyssesTraffic {
  int64_t forward = 0, backward = 0;  // bytes that one rank sends in one layer
};

// Bytes that `rank` of `ranks` sends. `element_bytes` is the activations' type; dK and dV of a kv head that
// several ranks use travel in the accumulation type (float32; float64 for 8-byte elements).
UlyssesTraffic ulysses_traffic(const ModelConfig& model, int64_t batch, int64_t tokens, int64_t element_bytes,
                               int64_t ranks, int64_t rank);

}  // namespace ithaca
