// B batch, T length, H query heads, K kv heads, D head size.
#include "tests/parity/sequence_case.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <mutex>
#include <random>

#include "ithaca/base/error.h"
#include "ithaca/comm/device_mesh.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/sequence/layout.h"

namespace ithaca {
namespace {

// Documents of random lengths, among them an empty one and one of one token; some rows are left as padding.
std::vector<int64_t> random_bounds(int64_t length, std::mt19937& random) {
  std::vector<int64_t> bounds = {0, 0};
  if (length > 1) bounds.push_back(1);
  const int64_t end = length - length / 9;
  while (bounds.back() < end) {
    const int64_t most = std::max<int64_t>(1, length / (1 + static_cast<int64_t>(random() % 6)));
    bounds.push_back(std::min(end, bounds.back() + 1 + static_cast<int64_t>(random() % most)));
  }
  return bounds;
}

}  // namespace

std::string SchemeCase::name() const {
  return str("ulysses ", ulysses, " ring ", ring, ring_inner ? " ring_inner" : "", " window ", cp_window_size,
             " chunks ", chunks, method == RingMethod::kRing ? "" : " all-gathered");
}

std::vector<SchemeCase> all_schemes(const std::vector<int>& products) {
  std::vector<SchemeCase> schemes;
  for (const int product : products)
    for (int ulysses = 1; ulysses <= product; ++ulysses) {
      if (product % ulysses != 0) continue;
      const int ring = product / ulysses;
      for (const bool ring_inner : {false, true}) {
        if (ring_inner && (ulysses == 1 || ring == 1)) continue;
        for (const int chunks : {1, 3}) {
          if (chunks > 1 && ulysses == 1) continue;
          for (int inner = 1; inner < std::max(ring, 2); ++inner)
            if (ring % inner == 0)
              schemes.push_back({ulysses, ring, ring_inner, inner, chunks, RingMethod::kRing});
          if (ring > 1) schemes.push_back({ulysses, ring, ring_inner, 1, chunks, RingMethod::kAllGatherKv});
        }
      }
    }
  return schemes;
}

std::string ShapeCase::name() const {
  return str("heads ", heads, "/", kv_heads, " D ", head_dim, " T ", length, " B ", batch,
             causal ? " causal" : " full", alibi ? " alibi" : "", window ? " window" : "",
             packing == Packing::kRandom ? " packed" : "",
             sparsity == Sparsity::kFixed ? " fixed blocks" : "",
             sparsity == Sparsity::kMask ? " block mask" : "");
}

AttentionPattern ShapeCase::pattern(unsigned seed) const {
  std::mt19937 random(seed);
  AttentionPattern pattern;
  pattern.causal = causal;
  pattern.sequence_length = length;
  if (alibi) pattern.alibi_slopes = ithaca::alibi_slopes(heads);
  if (window) pattern.window = 1 + static_cast<int64_t>(random() % static_cast<unsigned>(1 + length / 3));
  if (packing == Packing::kRandom)
    for (int64_t b = 0; b < batch; ++b) pattern.documents.push_back(random_bounds(length, random));
  if (sparsity == Sparsity::kFixed) {
    pattern.sparse.block = 1 + static_cast<int64_t>(random() % 8);
    pattern.sparse.num_local_blocks = 3;
    pattern.sparse.num_global_blocks = 1;
  } else if (sparsity == Sparsity::kMask) {
    pattern.sparse.block = 1 + static_cast<int64_t>(random() % 16);
    pattern.sparse.mask_blocks = (length + pattern.sparse.block - 1) / pattern.sparse.block;
    for (int64_t i = 0; i < pattern.sparse.mask_blocks * pattern.sparse.mask_blocks; ++i)
      pattern.sparse.mask.push_back(random() % 2);
  }
  return pattern;
}

Inputs random_inputs(const ShapeCase& shape, unsigned seed) {
  const at::Generator generator = at::detail::createCPUGenerator(seed);
  const auto random = [&](int64_t heads) {
    return at::randn({shape.batch, shape.length, heads, shape.head_dim}, generator, at::kDouble);
  };
  return {random(shape.heads), random(shape.kv_heads), random(shape.kv_heads), random(shape.heads)};
}

Attended attend_whole(const Inputs& in, const AttentionPattern& pattern, AttentionBackend backend) {
  const Rows rows = {{0, in.q.size(1)}};
  const HeadRange heads = HeadRange::all(in.q.size(2), in.k.size(2));
  const AttentionOutput output = attention_block(in.q, in.k, in.v, rows, rows, heads, pattern, backend);
  const AttentionGrads d = attention_block_backward(in.dout, in.q, in.k, in.v, output.out, output.lse, rows,
                                                    rows, heads, pattern, backend);
  return {output.out, d.dq, d.dk, d.dv};
}

Attended attend_parallel(const Inputs& in, const AttentionPattern& pattern, const SchemeCase& scheme,
                         AttentionBackend backend, std::vector<Sent>* bytes) {
  Attended whole;
  if (bytes) bytes->assign(scheme.ranks(), {});
  run_thread_ranks(scheme.ranks(), [&](Communicator& world) {
    DeviceMesh mesh(world, {.ulysses = scheme.ulysses, .ring = scheme.ring, .ring_inner = scheme.ring_inner});
    const SequenceGrid grid = {scheme.ulysses, scheme.ring, scheme.ring_inner};
    const SequenceLayout layout(grid, pattern, in.q.size(0), in.q.size(1));
    const int rank = mesh.sequence().rank();
    const auto leaf = [&](const at::Tensor& t) { return shard(t, layout, rank).requires_grad_(true); };
    const at::Tensor q = leaf(in.q), k = leaf(in.k), v = leaf(in.v);

    SequenceAttentionOptions options;
    options.backend = backend;
    options.ring_method = scheme.method;
    options.cp_window_size = scheme.cp_window_size;
    options.ulysses_chunks = scheme.chunks;
    const AttentionCore core =
        sequence_attention(mesh.group(Axis::kUlysses), mesh.group(Axis::kRing), options);
    const int64_t before = mesh.bytes_sent();
    const at::Tensor out = core(q, k, v, HeadRange::all(q.size(2), k.size(2)), pattern);
    const int64_t between = mesh.bytes_sent();
    torch::autograd::backward({out}, {shard(in.dout, layout, rank)});
    if (bytes) (*bytes)[rank] = {between - before, mesh.bytes_sent() - between};

    const auto gathered = [&](const at::Tensor& t) { return unshard(t, layout, mesh.sequence()); };
    const Attended all = {gathered(out), gathered(q.grad()), gathered(k.grad()), gathered(v.grad())};
    if (rank == 0) whole = all;
  });
  return whole;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  if (a.numel() == 0) return 0;
  const double difference = (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item().toDouble();
  return std::isnan(difference) ? INFINITY : difference / std::max(1.0, b.abs().max().item().toDouble());
}

Problem make_problem(const ShapeCase& shape, unsigned seed) {
  Problem problem = {shape, seed, random_inputs(shape, seed), shape.pattern(seed), {}};
  problem.expected = attend_whole(problem.in, problem.pattern, AttentionBackend::kNaive);
  return problem;
}

void expect_parity(const SchemeCase& scheme, const Problem& problem, AttentionBackend backend) {
  const auto& [shape, seed, in, pattern, expected] = problem;
  SCOPED_TRACE(scheme.name() + "; " + shape.name() + str("; seed ", seed));
  if (scheme.ulysses > shape.heads) {
    EXPECT_THROW(attend_parallel(in, pattern, scheme, backend), UserError);
    return;
  }
  std::vector<Sent> sent;
  const Attended actual = attend_parallel(in, pattern, scheme, backend, &sent);
  EXPECT_LE(distance(actual.out, expected.out), 1e-10) << "out";
  EXPECT_LE(distance(actual.dq, expected.dq), 1e-10) << "dq";
  EXPECT_LE(distance(actual.dk, expected.dk), 1e-10) << "dk";
  EXPECT_LE(distance(actual.dv, expected.dv), 1e-10) << "dv";

  ModelConfig model;
  model.num_attention_heads = shape.heads;
  model.num_key_value_heads = shape.kv_heads;
  model.head_dim = shape.head_dim;
  const SequenceGrid grid = {scheme.ulysses, scheme.ring, scheme.ring_inner};
  const PairRules rules = pair_rules(pattern);
  for (int rank = 0; rank < scheme.ranks(); ++rank) {
    const LayerTraffic formula = sequence_traffic(model,
                                                  {scheme.ulysses, scheme.ring, scheme.cp_window_size,
                                                   scheme.chunks, scheme.method == RingMethod::kAllGatherKv},
                                                  shape.batch, shape.length, pattern.documents, rules, 8,
                                                  grid.ulysses_index(rank), grid.ring_index(rank));
    EXPECT_EQ(sent[rank].forward, formula.forward) << "rank " << rank;
    EXPECT_EQ(sent[rank].backward, formula.backward) << "rank " << rank;
  }
}

}  // namespace ithaca
