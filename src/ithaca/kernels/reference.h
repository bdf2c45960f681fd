// The naive twin of every operator, written from the formulas with plain ATen operators: any dtype, any
// device. Oracle of the tests, and what runs on devices and dtypes that have no kernel of their own. Shapes
// and meanings as in the operators' headers; inputs are already checked.
#pragma once
#include "ithaca/kernels/attention_block.h"
#include "ithaca/kernels/linear_cross_entropy.h"
#include "ithaca/kernels/rms_norm.h"
#include "ithaca/kernels/swiglu.h"

namespace ithaca::reference {

RmsNormOutput rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
RmsNormGrads rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& rstd);

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse);

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
SwigluGrads swiglu_backward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up);

// Holds the [N, V] logits.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels);
LinearCrossEntropyOutput linear_cross_entropy_with_grad(const at::Tensor& hidden, const at::Tensor& weight,
                                                        const at::Tensor& labels,
                                                        const at::Tensor& dweight_accumulator);

// Holds the [H, Sq, Sk] scores of a document. Any q_rows and k_rows.
AttentionOutput attention_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                const AttentionPattern& pattern);
AttentionGrads attention_block_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                        const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                        const AttentionPattern& pattern);

}  // namespace ithaca::reference
