// Multi-head attention with grouped kv heads. How rows meet each other is one callable, `core`: local,
// Ulysses, ring and hybrid are functions that make one; the layer stays the same code. Counts are read from
// shapes and HeadRange, never from the config.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

#include "ithaca/kernels/attention_block.h"
#include "ithaca/kernels/pattern.h"
#include "ithaca/nn/linear.h"
#include "ithaca/nn/rope.h"

namespace ithaca {

// q [B, S, H, D], k and v [B, S, K, D] (this process's rows, `heads` = the heads in these tensors) -> out [B,
// S, H, D]; differentiable.
using AttentionCore = std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               const HeadRange& heads, const AttentionPattern& pattern)>;

// Attention over rows that are all here (global positions 0..S-1).
AttentionCore local_attention(AttentionBackend backend);

struct Attention {
  Linear q_proj, k_proj, v_proj, o_proj;
  int64_t head_dim = 0;
  HeadRange heads;  // the heads that this layer's weights hold
  AttentionCore core;

  // x [B, S, C] -> [B, S, C]
  at::Tensor forward(const at::Tensor& x, const RopeTables& rope, const AttentionPattern& pattern);
};

}  // namespace ithaca
