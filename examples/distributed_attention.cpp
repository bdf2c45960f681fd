// A GPT block made sequence-parallel as in the DeepSpeed-Ulysses tutorial: its attention is wrapped in
// DistributedAttention, nothing else changes. Four ranks as threads, 9 query heads and 1,001 tokens that 4
// does not divide; the result equals the one-rank run.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <cstdio>
#include <vector>

#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/sequence/distributed_attention.h"
#include "ithaca/parallel/sequence/groups.h"
#include "ithaca/parallel/sequence/layout.h"

using namespace ithaca;

// The attention you already have: q [B, T, h, D], k, v [B, T, k, D], and whatever else you pass.
at::Tensor my_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& mask) {
  return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, 0.0,
                                          false, {}, true)
      .transpose(1, 2);
}

int main() {
  constexpr int kRanks = 4;
  constexpr int64_t kTokens = 1001, kHeads = 9, kKvHeads = 3, kHeadDim = 16;
  const at::Tensor q = at::randn({1, kTokens, kHeads, kHeadDim}, at::kDouble);
  const at::Tensor k = at::randn({1, kTokens, kKvHeads, kHeadDim}, at::kDouble);
  const at::Tensor v = at::randn({1, kTokens, kKvHeads, kHeadDim}, at::kDouble);
  const at::Tensor mask = at::ones({kTokens, kTokens}, at::kBool).tril();  // of the whole sequence
  const at::Tensor expected = my_attention(q, k, v, mask);

  std::vector<double> difference(kRanks);
  run_thread_ranks(kRanks, [&](Communicator& world) {
    SequenceGroups groups(world, kRanks);
    const DistributedAttention attention(my_attention, groups.sequence_parallel_group());

    const std::vector<int64_t> rows = contiguous_split(kTokens, kRanks);
    int64_t begin = 0;
    for (int r = 0; r < world.rank(); ++r) begin += rows[r];
    const auto mine = [&](const at::Tensor& t) { return t.narrow(1, begin, rows[world.rank()]); };

    const at::Tensor out =
        attention(mine(q), mine(k), mine(v), mask);  // this rank's rows in, this rank's rows out
    difference[world.rank()] = (out - mine(expected)).abs().max().item<double>();
  });
  for (int r = 0; r < kRanks; ++r)
    std::printf("rank %d: largest difference from one rank %.1e\n", r, difference[r]);
  for (const double d : difference)
    if (!(d < 1e-12)) return 1;
  return 0;
}
