// One case of sequence-parallel attention: the same q, k, v, dout on one rank and cut over a grid of ranks.
#pragma once
#include <ATen/core/Tensor.h>

#include <iosfwd>
#include <string>
#include <vector>

#include "ithaca/kernels/attention_block.h"
#include "ithaca/parallel/sequence/sequence_attention.h"

namespace ithaca {

// A grid, and how each axis works.
struct SchemeCase {
  int ulysses = 1, ring = 1;
  bool ring_inner = false;
  int cp_window_size = 1;
  int chunks = 1;
  RingMethod method = RingMethod::kRing;

  int ranks() const { return ulysses * ring; }
  std::string name() const;
};
// Every (ulysses, ring) whose product is one of `products`, with every method, window size, order and 1 or 3
// chunks that it has.
std::vector<SchemeCase> all_schemes(const std::vector<int>& products);

enum class Packing { kNone, kRandom };
enum class Sparsity { kNone, kFixed, kMask };

struct ShapeCase {
  int64_t heads = 8, kv_heads = 8, head_dim = 4, length = 64, batch = 1;
  bool causal = true, alibi = false, window = false;
  Packing packing = Packing::kNone;
  Sparsity sparsity = Sparsity::kNone;

  std::string name() const;
  AttentionPattern pattern(unsigned seed) const;
};

struct Attended {
  at::Tensor out, dq, dk, dv;  // [B, T, heads, D]
};
struct Inputs {
  at::Tensor q, k, v, dout;
};
Inputs random_inputs(const ShapeCase& shape, unsigned seed);
// On one rank.
Attended attend_whole(const Inputs& in, const AttentionPattern& pattern, AttentionBackend backend);
// On a grid of thread ranks, put together again. bytes: by rank, {forward, backward} that it sent.
struct Sent {
  int64_t forward = 0, backward = 0;
};
Attended attend_parallel(const Inputs& in, const AttentionPattern& pattern, const SchemeCase& scheme,
                         AttentionBackend backend, std::vector<Sent>* bytes = nullptr);

// max |a - b| / max(1, max |b|); NaN anywhere is infinitely far.
double distance(const at::Tensor& a, const at::Tensor& b);

// A shape with numbers in it and what the naive twin makes of them.
struct Problem {
  ShapeCase shape;
  unsigned seed;
  Inputs in;
  AttentionPattern pattern;
  Attended expected;
};
Problem make_problem(const ShapeCase& shape, unsigned seed);

// Runs the scheme, expects every tensor within 1e-10 and the bytes of config/layout.h; or the refusal where the
// Ulysses degree is above the heads.
void expect_parity(const SchemeCase& scheme, const Problem& problem, AttentionBackend backend);

}  // namespace ithaca
