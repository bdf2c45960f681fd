// One micro-batch of a replica, before it is cut for sequence parallelism.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace ithaca {

inline constexpr int64_t kNoLabel = -100;

struct Batch {
  at::Tensor input_ids;     // [B, T] int64; padding has id 0
  at::Tensor labels;        // [B, T] int64, shifted already: labels[t] = input_ids[t + 1] inside a document,
                            // kNoLabel at its last token and on padding
  at::Tensor position_ids;  // [B, T] int64, restart with each document
  // Per row cu_seqlens as in AttentionPattern::documents; the last bound is the row's length without padding.
  std::vector<std::vector<int64_t>> documents;
  int64_t num_tokens = 0;  // without padding
  int64_t num_labels = 0;  // labels that are not kNoLabel
};

}  // namespace ithaca
