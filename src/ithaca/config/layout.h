// What each rank of a sequence-parallel group holds and sends, as arithmetic: for `ithaca check`, and for
// tests to compare with. Shape letters: B batch, S tokens, H query heads, K kv heads, D head size.
#pragma once
#include <cstdint>

#include "ithaca/config/model_config.h"

namespace ithaca {

struct Span {
  int64_t begin = 0, count = 0;
  bool operator==(const Span&) const = default;
};

// Part `rank` of n things over `ranks`: the first n mod ranks parts hold one more.
Span even_split(int64_t n, int64_t ranks, int64_t rank);

// The kv heads that these query heads read: query head h reads floor(h * K / H).
Span kv_heads_of(Span query_heads, int64_t q_total, int64_t kv_total);

struct UlyssesTraffic {
  int64_t forward = 0, backward = 0;  // bytes that one rank sends in one layer
};

// Bytes that `rank` of `ranks` sends. `element_bytes` is the activations' type; dK and dV of a kv head that
// several ranks use travel in the accumulation type (float32; float64 for 8-byte elements).
UlyssesTraffic ulysses_traffic(const ModelConfig& model, int64_t batch, int64_t tokens, int64_t element_bytes,
                               int64_t ranks, int64_t rank);

// Bytes that one rank sends to sum all gradients in float32 over `ranks`: reduce_scatter then all_gather,
// each (n - 1) / n of the data.
int64_t gradient_traffic(const ModelConfig& model, int64_t ranks);

}  // namespace ithaca
