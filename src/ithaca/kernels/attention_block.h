// One block of exact attention with the means to combine and differentiate blocks (FlashAttention-2, Dao
// 2023, arXiv 2307.08691, sections 3.1-3.2). q [B, Sq, H, D]; k, v [B, Sk, K, D], any strides with the last
// dim contiguous; H = heads.q_count, K = heads.kv_count. All backends are normalised here to one contract:
//   out [B, Sq, H, D] in q's dtype; lse [B, H, Sq] contiguous in opmath (float32; float64 for float64),
//   natural logarithm of the sum of exponentials of the scaled scores; a row that may attend to nothing has
//   out 0, lse -infinity and gradients 0.
// The backward takes the final out and lse (over all blocks, where there are many) and returns dq, dk, dv in
// opmath, shaped as q, k, v. Sums run in opmath; ATen's kernels round each call's dq, dk, dv to q's dtype
// once before they are widened. Deterministic on CPU; kIthaca's bits are the same on any number of threads.
// kNaive keeps NaN of other documents and padding out, as all do; not that of later rows of the same document.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "ithaca/base/cpu.h"
#include "ithaca/kernels/pattern.h"

namespace ithaca {

enum class AttentionBackend {
  kAuto,    // auto_on_cpu; on CUDA cuDNN where it can, else FlashAttention
  kNaive,   // materialises the scores: the oracle (reference.h); takes every pattern, q_rows and k_rows
  kIthaca,  // this project's tiled CPU kernel: every pattern, q_rows and k_rows, never an [S, S] tensor
  kAten,    // ATen's CPU flash attention, called as attention_dense.h says; UserError for window, ALiBi and
            // sparse blocks
  kFlash,  // the tiled exact algorithm: kIthaca on CPU; FlashAttention-2 through ATen on CUDA, where ALiBi and
           // sparse blocks are a UserError
  kCudnn,  // cuDNN through ATen, CUDA; UserErrors as kAten's
};
// "auto" | "naive" | "ithaca" | "aten" | "flash" | "cudnn"; UserError names the known ones. An unavailable
// choice is refused at the first call with the device named, never replaced.
AttentionBackend attention_backend_from_name(const std::string& name);
// What kAuto is on a CPU: kIthaca, but kAten for bf16 and the patterns that it takes where its kernel is the faster one.
AttentionBackend auto_on_cpu(at::ScalarType dtype, const AttentionPattern& pattern, const CpuChoice& cpu);

struct AttentionOutput {
  at::Tensor out, lse;
};
struct AttentionGrads {
  at::Tensor dq, dk, dv;
};

AttentionOutput attention_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                const AttentionPattern& pattern, AttentionBackend backend);

AttentionGrads attention_block_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                        const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                        const AttentionPattern& pattern, AttentionBackend backend);

// The same over several blocks of keys (ring attention). total.out [B, Sq, H, D] and total.lse [B, H, Sq] are
// opmath, contiguous, and hold the attention over the keys of all blocks so far; begin with out 0 and lse
// -infinity. Nothing is rounded to q's dtype in between (ATen's and CUDA's kernels round each block's out once).
void attention_block_add(AttentionOutput& total, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                         const AttentionPattern& pattern, AttentionBackend backend);
// total.dq, dk, dv: contiguous, opmath, shaped as q, k, v; this block's gradients are added. out and lse are
// the final ones, out in q's dtype.
void attention_block_backward_add(AttentionGrads& total, const at::Tensor& dout, const at::Tensor& q,
                                  const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                                  const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
                                  const HeadRange& heads, const AttentionPattern& pattern,
                                  AttentionBackend backend);

}  // namespace ithaca
