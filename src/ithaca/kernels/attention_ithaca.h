// The tiled CPU attention behind AttentionBackend::kIthaca: memory and threads around attention_cpu.h. Inputs
// are already checked and on CPU; any strides (a last dim that is not contiguous is copied). The processor has `tier`.
#pragma once
#include "ithaca/base/cpu.h"
#include "ithaca/kernels/attention_block.h"

namespace ithaca::attention {

AttentionOutput forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Rows& q_rows,
                        const Rows& k_rows, const HeadRange& heads, const AttentionPattern& pattern,
                        CpuTier tier);
// Merges into total: attention_block_add's contract.
void forward_add(AttentionOutput& total, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                 const AttentionPattern& pattern, CpuTier tier);
AttentionGrads backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
                        const HeadRange& heads, const AttentionPattern& pattern, CpuTier tier);
// Adds to total: attention_block_backward_add's contract.
void backward_add(AttentionGrads& total, const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                  const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, const Rows& q_rows,
                  const Rows& k_rows, const HeadRange& heads, const AttentionPattern& pattern, CpuTier tier);

}  // namespace ithaca::attention
