// A GPT block over a ring: its attention is replaced by RingAttention, nothing else changes. Four ranks as
// threads, each with two pieces of 1,001 tokens (zigzag, so that causal work is equal); K and V travel with their
// 3 heads. The result equals the one-rank run.
#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>

#include <cstdio>
#include <vector>

#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/sequence/groups.h"
#include "ithaca/parallel/sequence/hybrid_attention.h"

using namespace ithaca;

constexpr int64_t kTokens = 1001, kHeads = 9, kKvHeads = 3, kHeadDim = 16, kHidden = kHeads * kHeadDim;

struct GptBlock {
  at::Tensor qkv = at::randn({(kHeads + 2 * kKvHeads) * kHeadDim, kHidden}, at::kDouble) / 12;
  at::Tensor proj = at::randn({kHidden, kHidden}, at::kDouble) / 12;

  template <class SelfAttention>  // x [B, S, C]: the rows at hand
  at::Tensor forward(const at::Tensor& x, const SelfAttention& attention) const {
    const at::Tensor heads = at::linear(x, qkv).unflatten(2, {-1, kHeadDim});
    const at::Tensor q = heads.narrow(2, 0, kHeads), k = heads.narrow(2, kHeads, kKvHeads),
                     v = heads.narrow(2, kHeads + kKvHeads, kKvHeads);
    return x + at::linear(attention(q, k, v).flatten(2), proj);
  }
};

int main() {
  const GptBlock block;
  const at::Tensor x = at::randn({1, kTokens, kHidden}, at::kDouble);
  std::vector<at::Tensor> results(5);
  const auto run = [&](Communicator& world) {
    SequenceGroups groups(world, world.size(), 1);  // ulysses 1: all ranks are one ring
    const RingAttention attention(BlockAttention{}, groups.ring_group());
    const SequenceLayout layout(groups.grid(), attention.pattern(), 1, kTokens);
    const at::Tensor mine = shard(x, layout, world.rank());  // this rank's rows in, this rank's rows out
    const at::Tensor out = unshard(block.forward(mine, attention), layout, groups.sequence_parallel_group());
    results[world.size() == 1 ? 4 : world.rank()] = out;
  };
  run_thread_ranks(1, run);
  run_thread_ranks(4, run);
  for (int rank = 0; rank < 4; ++rank) {
    const double difference = (results[rank] - results[4]).abs().max().item().toDouble();
    std::printf("rank %d: largest difference from one rank %.1e\n", rank, difference);
    if (!(difference < 1e-12)) return 1;
  }
  return 0;
}
