// Attention among the ranks of a ring, each holding some rows of q, k and v (Liu et al. 2023, arXiv
// 2310.01889; zigzag order of rows: layout.h). Blocks of K and V travel from rank to rank, of kv heads and
// rows that are still needed; the next block's messages are posted before attention with the one at hand is
// computed. out, lse, dQ, dK, dV are summed in opmath. In the backward pass K and V travel again, and the sums
// of dK and dV with them, each from the rank that used a block to the next that uses it, from the last one to
// its owner, who adds its own part.
//
// Bytes that rank r sends in one layer, over the block lists of config/layout.h (ring_routes), with b batch
// rows, K kv heads at hand, D head size, E bytes an element, A bytes of opmath:
//   forward   2 K D E * sum of the carried rows over the visits whose parent is r (or that r owns)
//   backward  the same, and 2 K D A * sum of the summed rows over the visits of r
// For one unpacked document and no window, all R ranks with S rows, every block makes R - 1 hops:
//   not causal        forward 2 b K D E (R - 1) S; backward the same + 2 b K D A (R - 1) S
//   causal (zigzag)   the later half of a block is needed only by the ranks below its owner. A ring towards
//                     lower ranks drops it behind rank 0: K and V are 3/4 of R (R - 1) S rows over all ranks,
//                     dK and dV all but the (R - 1) S / 2 of the last chunk, which no other rank needs. A ring
//                     towards higher ranks has these two the other way round. Each pass takes the direction
//                     that sends less: forward the first, backward the second where A > E.
//   double ring       the same rows in all; of a block's R - 1 hops R / W - 1 are between inner rings of W, each
//                     posted as soon as the block has come into the ring before, W steps ahead of its use.
//   window w, rows contiguous, w <= S: 2 b K D E (w - 1) and 2 b K D A (w - 1), to the next rank and back.
#pragma once
#include "ithaca/kernels/attention_block.h"
#include "ithaca/parallel/sequence/batch_plan.h"

namespace ithaca {

class Communicator;

// q [B, S, h, D], k and v [B, S, k', D] of this rank's rows (by plan), `heads` those in the tensors, the same
// on all ranks of the ring. Returns out in q's dtype, lse [B, h, S]; and gradients in opmath.
AttentionOutput ring_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const HeadRange& heads, const BatchPlan& plan, Communicator& ring,
                             AttentionBackend backend);
AttentionGrads ring_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                             const HeadRange& heads, const BatchPlan& plan, Communicator& ring,
                             AttentionBackend backend);

}  // namespace ithaca
