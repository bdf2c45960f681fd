// Attention forward and backward, ithaca's kernel beside ATen's flash attention, interleaved in one run; the
// minimum of each over the rounds. GF/s counts 4 D (forward) and 10 D (backward) operations for every pair of
// a query and a key that the pattern allows.
//   OMP_NUM_THREADS=1 attention_bench [rounds [part of a row's name ...]]
// Shape letters: S rows of the sequence, H query heads, K kv heads, D head size.
#include <ATen/Parallel.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "ithaca/kernels/attention_block.h"

namespace ithaca {
namespace {

struct Case {
  std::string name;
  at::ScalarType dtype;
  int64_t S, H, K, D;
  AttentionPattern pattern;
  // What runs beside it: ATen's kernel where it can do the pattern, else ours without documents (its own column).
  bool aten = true;
};

struct Times {
  double forward = std::numeric_limits<double>::infinity(), backward = forward;
};

template <class F>
void keep_minimum(double& best, F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

struct Tensors {
  at::Tensor q, k, v, dout;
  explicit Tensors(const Case& c)
      : q(at::randn({1, c.S, c.H, c.D}).to(c.dtype)),
        k(at::randn({1, c.S, c.K, c.D}).to(c.dtype)),
        v(at::randn({1, c.S, c.K, c.D}).to(c.dtype)),
        dout(at::randn({1, c.S, c.H, c.D}).to(c.dtype)) {}
};

void time_ithaca(const Case& c, const Tensors& t, Times& times) {
  const Rows rows{{0, c.S}};
  const HeadRange heads = HeadRange::all(c.H, c.K);
  AttentionOutput f;
  keep_minimum(times.forward, [&] {
    f = attention_block(t.q, t.k, t.v, rows, rows, heads, c.pattern, AttentionBackend::kIthaca);
  });
  keep_minimum(times.backward, [&] {
    attention_block_backward(t.dout, t.q, t.k, t.v, f.out, f.lse, rows, rows, heads, c.pattern,
                             AttentionBackend::kIthaca);
  });
}

void time_aten(const Tensors& t, Times& times) {
  const at::Tensor q = t.q.transpose(1, 2), k = t.k.transpose(1, 2), v = t.v.transpose(1, 2);
  std::tuple<at::Tensor, at::Tensor> f;
  keep_minimum(times.forward,
               [&] { f = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0, /*is_causal=*/true); });
  keep_minimum(times.backward, [&] {
    at::_scaled_dot_product_flash_attention_for_cpu_backward(t.dout.transpose(1, 2), q, k, v, std::get<0>(f),
                                                             std::get<1>(f), 0, /*is_causal=*/true);
  });
}

void run(const Case& c, int rounds) {
  const Tensors t(c);
  Times ithaca, aten, dense;
  Case whole = c;
  whole.pattern = {};
  for (int i = 0; i < rounds; ++i) {
    time_ithaca(c, t, ithaca);
    if (c.aten)
      time_aten(t, aten);
    else
      time_ithaca(whole, t, dense);
  }
  const double pairs =
      static_cast<double>(attention_area(c.pattern, 0, {{0, c.S}}, {{0, c.S}}) * c.H * c.D) * 1e-9;
  const auto print = [&](const char* what, const Times& x) {
    std::printf("%-28s %-7s %10.3f %10.3f %8.1f %8.1f %8.1f", c.name.c_str(), what, x.forward * 1e3,
                x.backward * 1e3, 4 * pairs / x.forward, 10 * pairs / x.backward,
                14 * pairs / (x.forward + x.backward));
  };
  if (c.aten) {
    print("aten", aten);
    std::printf("\n");
  }
  print("ithaca", ithaca);
  if (c.aten)
    std::printf("  x%.2f  x%.2f  x%.2f", aten.forward / ithaca.forward, aten.backward / ithaca.backward,
                (aten.forward + aten.backward) / (ithaca.forward + ithaca.backward));
  else
    std::printf("  dense causal / this: x%.2f",
                (dense.forward + dense.backward) / (ithaca.forward + ithaca.backward));
  std::printf("\n");
  std::fflush(stdout);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const std::string type = dtype == at::kFloat ? "f32" : "bf16";
    for (const int64_t D : {64, 128})
      for (const int64_t S : {1024, 4096, 16384}) {
        const int64_t K = S > 4096 ? 1 : 3;
        const std::string shape = type + " d" + std::to_string(D) + " " + std::to_string(S);
        all.push_back({shape + " causal", dtype, S, 3 * K, K, D, {}});
        if (S != 4096) continue;
        std::vector<int64_t> bounds;
        for (int64_t i = 0; i <= 16; ++i) bounds.push_back(i * S / 16);
        all.push_back({shape + " 16 documents", dtype, S, 3 * K, K, D, {.documents = {bounds}}, false});
        all.push_back({shape + " window 512", dtype, S, 3 * K, K, D, {.window = 512}, false});
        all.push_back(
            {shape + " alibi", dtype, S, 3 * K, K, D, {.alibi_slopes = alibi_slopes(3 * K)}, false});
        all.push_back({shape + " sparse",
                       dtype,
                       S,
                       3 * K,
                       K,
                       D,
                       {.sparse = {.block = 64, .num_local_blocks = 8, .num_global_blocks = 1}},
                       false});
      }
  }
  return all;
}

}  // namespace
}  // namespace ithaca

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 3;
  std::printf("threads %d, minimum of %d rounds\n%-28s %-7s %10s %10s %8s %8s %8s  aten / ithaca\n",
              at::get_num_threads(), rounds, "", "", "fwd ms", "bwd ms", "fwd GF/s", "bwd GF/s", "both");
  for (const ithaca::Case& c : ithaca::cases()) {
    bool wanted = argc <= 2;
    for (int i = 2; i < argc; ++i) wanted = wanted || c.name.find(argv[i]) != std::string::npos;
    if (wanted) ithaca::run(c, rounds);
  }
}
