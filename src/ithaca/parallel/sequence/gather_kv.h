// The other way to meet the rows of other ranks: each rank first gets every row of K and V that its queries
// attend to, from their owners in one all_to_all, then computes one attention. No message waits for another
// rank's attention, so documents of very unequal length cost no waiting; K and V of the whole sequence are in
// memory where all rows are needed. In the backward pass they are gathered again, and the gradients go back in
// opmath and are summed in rank order.
//
// Bytes that rank r sends in one layer (b batch rows, K kv heads at hand, D head size, E bytes an element, A of
// opmath; sets as in config/layout.h, rows_gathered):
//   forward   2 K D E * sum over the other ranks of the rows of r that they need
//   backward  the same, and 2 K D A * sum over the owners of their rows that r needs
// Not causal, one document, S rows a rank: 2 b K D (R - 1) S E forward, the same + 2 b K D (R - 1) S A backward.
#pragma once
#include "ithaca/kernels/attention_block.h"
#include "ithaca/parallel/sequence/batch_plan.h"

namespace ithaca {

class Communicator;

// Arguments and results as in ring.h.
AttentionOutput gather_kv_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const HeadRange& heads, const BatchPlan& plan, Communicator& ring,
                                  AttentionBackend backend);
AttentionGrads gather_kv_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                  const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                  const HeadRange& heads, const BatchPlan& plan, Communicator& ring,
                                  AttentionBackend backend);

}  // namespace ithaca
