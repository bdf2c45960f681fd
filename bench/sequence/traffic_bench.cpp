// Bytes that one layer's attention sends, counted by the communicators of thread ranks, beside the formulas of
// config/layout.h, for each method: with ranks that grow with the sequence, and at a fixed length. Exit code 1
// where a count is not its formula. Prints markdown.
//   traffic_bench [fixed length [query heads, kv heads, head size]]
// Shape letters: B batch, S rows of a rank, H query heads, K kv heads, D head size.
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "bench/sequence/method.h"
#include "ithaca/comm/thread_world.h"

namespace ithaca::bench {
namespace {

struct Shape {
  int64_t heads = 8, kv_heads = 2, head_dim = 16;
};
constexpr int64_t kElementBytes = 2;  // bfloat16

LayerTraffic counted(Communicator& world, const ParallelPlan& plan, const Shape& shape, int64_t tokens) {
  DeviceMesh mesh(world, plan.degrees);
  AttentionPattern pattern;
  pattern.sequence_length = tokens;
  const SequenceLayout layout(sequence_grid(plan.degrees), pattern, 1, tokens);
  const int64_t rows = layout.count(mesh.sequence().rank());
  const auto random = [&](int64_t heads) {
    return at::randn({1, rows, heads, shape.head_dim}, at::kBFloat16);
  };
  const auto leaf = [&](int64_t heads) { return random(heads).requires_grad_(true); };
  const at::Tensor q = leaf(shape.heads), k = leaf(shape.kv_heads), v = leaf(shape.kv_heads);
  const AttentionCore core =
      sequence_attention(mesh.group(Axis::kUlysses), mesh.group(Axis::kRing), plan.attention);
  LayerTraffic traffic;
  const int64_t before = mesh.bytes_sent();
  const at::Tensor out = core(q, k, v, HeadRange::all(shape.heads, shape.kv_heads), pattern);
  traffic.forward = mesh.bytes_sent() - before;
  torch::autograd::backward({out}, {random(shape.heads)});
  traffic.backward = mesh.bytes_sent() - before - traffic.forward;
  return traffic;
}

LayerTraffic formula(const ParallelPlan& plan, const Shape& shape, int64_t tokens, int rank) {
  ModelConfig model;
  model.num_attention_heads = shape.heads;
  model.num_key_value_heads = shape.kv_heads;
  model.head_dim = shape.head_dim;
  const SequenceGrid grid = sequence_grid(plan.degrees);
  return sequence_traffic(model, scheme_of(plan), 1, tokens, {}, dense_rules(true, 0), kElementBytes,
                          grid.ulysses_index(rank), grid.ring_index(rank));
}

// Returns whether every rank sent what the formula says.
bool print_row(const std::string& method, int64_t tokens, int ranks, const Shape& shape) {
  const ParallelPlan plan = plan_of(method, ranks);
  std::vector<LayerTraffic> found(ranks);
  run_thread_ranks(
      ranks, [&](Communicator& world) { found[world.rank()] = counted(world, plan, shape, tokens); },
      std::chrono::minutes(10));
  bool equal = true;
  LayerTraffic sum, predicted, largest;
  for (int rank = 0; rank < ranks; ++rank) {
    const LayerTraffic expected = formula(plan, shape, tokens, rank);
    equal = equal && found[rank].forward == expected.forward && found[rank].backward == expected.backward;
    sum.forward += found[rank].forward;
    sum.backward += found[rank].backward;
    predicted.forward += expected.forward;
    predicted.backward += expected.backward;
    largest.forward = std::max(largest.forward, found[rank].forward);
    largest.backward = std::max(largest.backward, found[rank].backward);
  }
  std::printf("| %ld | %d | %s | %ld | %ld | %ld | %ld | %ld | %ld | %s |\n", tokens, ranks, method.c_str(),
              sum.forward, predicted.forward, largest.forward, sum.backward, predicted.backward,
              largest.backward, equal ? "yes" : "NO");
  std::fflush(stdout);
  return equal;
}

int run(const Shape& shape, int64_t fixed) {
  std::printf("%ld query and %ld kv heads of %ld, bfloat16, causal, one document; bytes of one layer\n",
              shape.heads, shape.kv_heads, shape.head_dim);
  bool equal = true;
  for (const bool grows : {true, false}) {
    std::printf(
        "\n%s\n\n| tokens | ranks | method | forward, all ranks | formula | most of a rank | backward, all "
        "ranks | formula | most of a rank | every rank equal |\n|---|---|---|---|---|---|---|---|---|---|\n",
        grows ? "Ranks grow with the sequence:" : "Fixed length:");
    for (const int ranks : {2, 4, 8})
      for (const std::string& method : kMethods)
        if (fits(method, ranks))
          equal = print_row(method, grows ? fixed / 4 * ranks : fixed, ranks, shape) && equal;
  }
  return equal ? 0 : 1;
}

}  // namespace
}  // namespace ithaca::bench

int main(int argc, char** argv) {
  using namespace ithaca::bench;
  const auto number = [&](int i, int64_t otherwise) { return argc > i ? std::atol(argv[i]) : otherwise; };
  return run({number(2, 8), number(3, 2), number(4, 16)}, number(1, 8192));
}
