// Attention over packed documents on a 2 x 2 grid (Ulysses 2 x ring 2) with HybridAttention: rows are dealt out so
// that every rank has the same work. Four ranks as threads; 9 query and 3 kv heads, documents of 400, 1, 273 and
// 327 tokens. The result equals the one-rank run.
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>

#include <cstdio>
#include <vector>

#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/sequence/groups.h"
#include "ithaca/parallel/sequence/hybrid_attention.h"

using namespace ithaca;

int main() {
  constexpr int64_t kTokens = 1001, kHeads = 9, kKvHeads = 3, kHeadDim = 16;
  const std::vector<int64_t> cu_seqlens = {0, 400, 401, 674, 1001};
  const at::Tensor q = at::randn({1, kTokens, kHeads, kHeadDim}, at::kDouble);
  const at::Tensor k = at::randn({1, kTokens, kKvHeads, kHeadDim}, at::kDouble);
  const at::Tensor v = at::randn({1, kTokens, kKvHeads, kHeadDim}, at::kDouble);

  std::vector<at::Tensor> results(5);
  const auto run = [&](Communicator& world) {
    const int ulysses = world.size() == 4 ? 2 : 1;
    SequenceGroups groups(world, world.size(), ulysses);
    const HybridAttention attention(BlockAttention{}, groups.ulysses_group(), groups.ring_group());
    AttentionPattern packed = attention.pattern();  // the layout follows the documents
    packed.documents = {cu_seqlens};
    const SequenceLayout layout(groups.grid(), packed, 1, kTokens);
    const auto mine = [&](const at::Tensor& t) { return shard(t, layout, groups.sequence_parallel_rank()); };
    const at::Tensor out = attention(mine(q), mine(k), mine(v), cu_seqlens);
    if (world.rank() == 0)
      std::printf("ulysses %d x ring %d: imbalance %.3f\n", ulysses, groups.ring_world_size(),
                  imbalance(layout, packed));
    results[world.size() == 1 ? 4 : world.rank()] = unshard(out, layout, groups.sequence_parallel_group());
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
