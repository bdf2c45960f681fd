// attention_block_add for rows in many runs, with any backend. The dense kernels (ATen's, cuDNN's,
// FlashAttention) compute one run of queries against one run of keys at a time and merge nothing; here they are
// called so.
#pragma once
#include "ithaca/kernels/attention_block.h"

namespace ithaca {

// Can this backend only take one run of queries and one of keys a call?
bool needs_single_runs(AttentionBackend backend, const at::Tensor& q);

// As the functions of the same arguments in attention_block.h; runs of q_rows and k_rows are equal or apart.
void attend_add(AttentionOutput& total, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                const AttentionPattern& pattern, AttentionBackend backend);
void attend_backward_add(AttentionGrads& total, const at::Tensor& dout, const at::Tensor& q,
                         const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                         const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
                         const HeadRange& heads, const AttentionPattern& pattern, AttentionBackend backend);

}  // namespace ithaca
