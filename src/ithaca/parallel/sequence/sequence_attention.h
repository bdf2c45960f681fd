// Sequence-parallel attention as the core of a decoder's layers: Ulysses over one axis of the grid, ring
// attention (Liu et al. 2023, arXiv 2310.01889) or all-gathered K and V over the other; both at once are the
// hybrid (USP, Fang & Zhao 2024, arXiv 2405.07719). A group of one on either axis does nothing there.
#pragma once
#include <memory>

#include "ithaca/kernels/attention_block.h"
#include "ithaca/nn/attention.h"

namespace ithaca {

class Communicator;
class PlanCache;

enum class RingMethod {
  kRing,         // K and V go from rank to rank while attention is computed (ring.h)
  kAllGatherKv,  // every rank gets the K and V rows it needs at once (gather_kv.h)
};

struct SequenceAttentionOptions {
  AttentionBackend backend = AttentionBackend::kAuto;
  RingMethod ring_method = RingMethod::kRing;
  int cp_window_size = 1;  // ranks of the inner ring of a double ring, divides the ring's size; 1: one ring
  int ulysses_chunks = 1;  // groups of heads whose exchange runs behind the attention of the one before
};

// For rows laid out by SequenceLayout over a grid of ulysses.size() x ring.size() (layout.h): this rank's
// place in the groups is its place in the grid, whichever ranks form them. Both groups must outlive the core
// and its graphs. pattern.sequence_length must be set. Copies of one core share the plan of the batch at hand:
// give the same core to all layers. UserError from the call when ulysses.size() is above the query heads.
// Exchange, attention and exchange are one autograd node: dK and dV stay in opmath until they are at home.
// Stash: with the Ulysses degree 1, kAll holds no more than kOutput (the rank's own q, k, v are computed again
// by the layer anyway). Otherwise out is held in both layouts.
AttentionCore sequence_attention(Communicator& ulysses, Communicator& ring,
                                 const SequenceAttentionOptions& options);
// The same with the plans of a cache that others ask too; of these groups and options' cp_window_size.
AttentionCore sequence_attention(Communicator& ulysses, Communicator& ring,
                                 const SequenceAttentionOptions& options, std::shared_ptr<PlanCache> plans);
// The same over a ring alone.
AttentionCore ring_attention(Communicator& ring, const SequenceAttentionOptions& options);

}  // namespace ithaca
