// Attention kernels of ATen's, brought to one form (attention_dense.h): layout, logsumexp, causal corner and
// padding of head sizes, in which they differ, end here. CUDA's take head sizes up to 128 (cuDNN) and 256
// (FlashAttention), float16 and bfloat16.
#pragma once
#include "ithaca/kernels/attention_dense.h"

namespace ithaca {

DenseAttention aten_cpu_attention();
DenseAttention flash_cuda_attention();
DenseAttention cudnn_cuda_attention();

}  // namespace ithaca
