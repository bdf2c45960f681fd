// Multi-head attention with grouped kv heads. How rows meet each other is one callable, `core`: local,
// Ulysses, ring and hybrid are functions that make one; the layer stays the same code. Counts are read from
// shapes and HeadRange, never from the config.
#pragma once
#include <ATen/core/Tensor.h>

#include <concepts>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include "ithaca/kernels/attention_block.h"
#include "ithaca/kernels/pattern.h"
#include "ithaca/nn/linear.h"
#include "ithaca/nn/rope.h"

namespace ithaca {

// What a layer under activation checkpointing hands its core, so that attention is not computed again. The
// first run (no gradients) leaves in it what the second needs; the second takes that out, computes no
// attention, and returns the same bits. A core that cannot do this leaves it empty: it is then run twice.
struct AttentionStash {
  enum class Keep {
    kOutput,  // out and lse: exchanges of q, k, v before attention are repeated
    kAll,     // also q, k, v as attention saw them, where they came from other processes: nothing is repeated
  };
  Keep keep = Keep::kAll;
  at::Tensor result = {};                // as the core returned it; undefined: nothing is here
  std::vector<at::Tensor> tensors = {};  // the core's own

  bool filled() const { return result.defined(); }
  int64_t bytes() const;  // tensors that share storage are counted once
};

// How rows meet each other: q [B, S, H, D], k and v [B, S, K, D] (this process's rows, `heads` = the heads in
// these tensors) -> out [B, S, H, D]; differentiable. Made from any callable of that form, with or without the
// stash as last argument (null: none); it may take the pattern as a SharedPattern, to keep it, or as an
// AttentionPattern.
class AttentionCore {
 public:
  AttentionCore() = default;
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, AttentionCore>) AttentionCore(F call) {
    if constexpr (std::invocable<F&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                 const HeadRange&, const SharedPattern&, AttentionStash*>) {
      call_ = std::move(call);
    } else {
      call_ = [call = std::move(call)](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const HeadRange& heads, const SharedPattern& pattern,
                                       AttentionStash*) { return call(q, k, v, heads, pattern); };
    }
  }

  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const HeadRange& heads,
                        const SharedPattern& pattern, AttentionStash* stash = nullptr) const {
    return call_(q, k, v, heads, pattern, stash);
  }
  explicit operator bool() const { return static_cast<bool>(call_); }

 private:
  std::function<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const HeadRange&,
                           const SharedPattern&, AttentionStash*)>
      call_;
};

// Attention over rows that are all here (global positions 0..S-1).
AttentionCore local_attention(AttentionBackend backend);

struct Attention {
  Linear q_proj, k_proj, v_proj, o_proj;
  int64_t head_dim = 0;
  HeadRange heads;  // the heads that this layer's weights hold
  AttentionCore core;

  // x [B, S, C] -> [B, S, C]. Undefined rope tables: no rotary embedding (ALiBi).
  at::Tensor forward(const at::Tensor& x, const RopeTables& rope, const SharedPattern& pattern,
                     AttentionStash* stash = nullptr);
};

}  // namespace ithaca
