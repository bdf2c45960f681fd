// RingAttention and HybridAttention (USP; yunchang's LongContextAttention): attention over rows that lie on the
// ranks of a ring, or of a ulysses x ring grid, as objects to put in the place of a model's own attention.
//
//   SequenceGroups groups(world, 8, 2);                         // 8 ranks a sequence, ulysses 2 x ring 4
//   HybridAttention attention(BlockAttention{}, groups.ulysses_group(), groups.ring_group());
//   SequenceLayout layout(groups.grid(), attention.pattern(), B, T);
//   q = shard(whole_q, layout, groups.sequence_parallel_rank());  // k, v, positions, labels alike
//   out = attention(q, k, v);                                    // or attention(q, k, v, cu_seqlens)
//
// A ring needs partial results that can be merged, so more than one ring rank takes BlockAttention alone; a
// local attention of your own works where the ring has one rank, as in DistributedAttention.
#pragma once
#include <string>
#include <type_traits>
#include <utility>

#include "ithaca/parallel/sequence/distributed_attention.h"
#include "ithaca/parallel/sequence/layout.h"
#include "ithaca/parallel/sequence/sequence_attention.h"

namespace ithaca {

// This project's attention (kernels/attention_block.h) as a local attention.
struct BlockAttention {
  AttentionBackend backend = AttentionBackend::kAuto;
};

// What the classes below share: the core, and the checks of its inputs. Null: a group of this rank alone.
class GridAttention {
 public:
  GridAttention(Communicator* ulysses, Communicator* ring, AttentionPattern pattern,
                const SequenceAttentionOptions& options, DimOrder order = DimOrder::kBatchFirst);

  // q [B, S, H, D], k and v [B, S, K, D] (or [S, B, ...], and so the result): this rank's rows by
  // SequenceLayout (UserError where their number is not that). cu_seqlens: the documents of every batch row, or
  // per batch row. Differentiable. Collective: the ranks also exchange their numbers of rows (8 bytes to each
  // other rank of both groups).
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const;
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const std::vector<int64_t>& cu_seqlens) const;
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const std::vector<std::vector<int64_t>>& cu_seqlens) const;
  const AttentionPattern& pattern() const { return pattern_; }

 private:
  Communicator *ulysses_, *ring_;
  DimOrder order_;
  AttentionPattern pattern_;
  AttentionCore core_;
};

// UserError: this cannot use a local attention that is not BlockAttention.
[[noreturn]] void refuse_foreign_attention(const std::string& who);

// The groups must outlive the object and every graph made through it. pattern: causal, window, slopes, sparse
// blocks; its documents and length are set by the calls.
template <class LocalAttention>
class HybridAttention {
 public:
  HybridAttention(LocalAttention local, Communicator& ulysses, Communicator& ring,
                  AttentionPattern pattern = {}, const SequenceAttentionOptions& options = {},
                  DimOrder order = DimOrder::kBatchFirst)
      : attention_(make(std::move(local), ulysses, ring, std::move(pattern), options, order)) {}

  // BlockAttention: as GridAttention; a local attention of one's own: as DistributedAttention.
  template <class... Extra>
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        Extra&&... extra) const {
    return attention_(q, k, v, std::forward<Extra>(extra)...);
  }
  const AttentionPattern& pattern() const { return attention_.pattern(); }

 private:
  static constexpr bool kOurs = std::is_same_v<LocalAttention, BlockAttention>;
  using Implementation = std::conditional_t<kOurs, GridAttention, DistributedAttention<LocalAttention>>;

  static Implementation make(LocalAttention local, Communicator& ulysses, Communicator& ring,
                             AttentionPattern pattern, SequenceAttentionOptions options, DimOrder order) {
    if constexpr (kOurs) {
      options.backend = local.backend;
      return GridAttention(&ulysses, &ring, std::move(pattern), options, order);
    } else {
      if (ring.size() > 1) refuse_foreign_attention("HybridAttention with more than one ring rank");
      return Implementation(std::move(local), ulysses, order);
    }
  }

  Implementation attention_;
};

// The same over a ring alone; cp_window_size ranks form the inner ring of a double ring (1: one ring).
class RingAttention : public GridAttention {
 public:
  RingAttention(BlockAttention local, Communicator& ring, AttentionPattern pattern = {},
                int cp_window_size = 1)
      : GridAttention(nullptr, &ring, std::move(pattern),
                      {.backend = local.backend, .cp_window_size = cp_window_size}) {}
  template <class LocalAttention>
  requires(!std::is_same_v<LocalAttention, BlockAttention>)
      RingAttention(const LocalAttention&, Communicator& ring, AttentionPattern pattern = {},
                    int cp_window_size = 1)
      : RingAttention(BlockAttention{}, ring, std::move(pattern), cp_window_size) {
    refuse_foreign_attention("RingAttention");
  }
};

}  // namespace ithaca
