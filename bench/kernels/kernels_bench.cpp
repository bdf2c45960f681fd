// Each operator beside the ATen operators it replaces, at SmolLM2-135M's shapes. Ratios are to be read within
// one run:
//   OMP_NUM_THREADS=1 kernels_bench --benchmark_filter=...
// Shape letters: N tokens, C hidden, I intermediate, V vocabulary, H query heads, K kv heads, D head size.
#include <ATen/TensorOperators.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>

#include "ithaca/kernels/attention_block.h"
#include "ithaca/kernels/linear_cross_entropy.h"
#include "ithaca/kernels/reference.h"
#include "ithaca/kernels/rms_norm.h"
#include "ithaca/kernels/rotary.h"
#include "ithaca/kernels/swiglu.h"

namespace ithaca {
namespace {

constexpr int64_t C = 576, I = 1536, V = 49152, H = 9, K = 3, D = 64;

at::ScalarType dtype_of(const benchmark::State& state) {
  return state.range(1) ? at::kBFloat16 : at::kFloat;
}
at::Tensor normal(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::randn(sizes, at::kFloat).to(dtype);
}

template <class F>
void loop(benchmark::State& state, F f) {
  state.SetLabel(state.range(1) ? "bf16" : "f32");
  f();
  for (auto _ : state) f();
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void rms_norm_ithaca(benchmark::State& state) {
  const at::Tensor x = normal({state.range(0), C}, dtype_of(state)), w = normal({C}, dtype_of(state));
  loop(state, [&] { benchmark::DoNotOptimize(rms_norm(x, w, 1e-5)); });
}
void rms_norm_aten(benchmark::State& state) {
  const at::Tensor x = normal({state.range(0), C}, dtype_of(state)), w = normal({C}, dtype_of(state));
  loop(state, [&] { benchmark::DoNotOptimize(reference::rms_norm(x, w, 1e-5)); });
}
void rms_norm_backward_ithaca(benchmark::State& state) {
  const at::Tensor x = normal({state.range(0), C}, dtype_of(state)), w = normal({C}, dtype_of(state)),
                   r = rms_norm(x, w, 1e-5).rstd;
  loop(state, [&] { benchmark::DoNotOptimize(rms_norm_backward(x, x, w, r)); });
}
void rms_norm_backward_aten(benchmark::State& state) {
  const at::Tensor x = normal({state.range(0), C}, dtype_of(state)), w = normal({C}, dtype_of(state)),
                   r = rms_norm(x, w, 1e-5).rstd;
  loop(state, [&] { benchmark::DoNotOptimize(reference::rms_norm_backward(x, x, w, r)); });
}

void rotary_ithaca(benchmark::State& state) {
  const at::Tensor x = normal({1, state.range(0), H, D}, dtype_of(state)),
                   t = normal({state.range(0), D / 2}, at::kFloat);
  loop(state, [&] { benchmark::DoNotOptimize(rotary(x, t, t)); });
}
void rotary_aten(benchmark::State& state) {
  const at::Tensor x = normal({1, state.range(0), H, D}, dtype_of(state)),
                   t = normal({state.range(0), D / 2}, at::kFloat);
  loop(state, [&] { benchmark::DoNotOptimize(reference::rotary(x, t, t, false)); });
}

void swiglu_ithaca(benchmark::State& state) {
  const at::Tensor g = normal({state.range(0), I}, dtype_of(state)),
                   u = normal({state.range(0), I}, dtype_of(state));
  loop(state, [&] { benchmark::DoNotOptimize(swiglu(g, u)); });
}
void swiglu_aten(benchmark::State& state) {
  const at::Tensor g = normal({state.range(0), I}, dtype_of(state)),
                   u = normal({state.range(0), I}, dtype_of(state));
  loop(state, [&] { benchmark::DoNotOptimize(at::silu(g) * u); });
}
void swiglu_backward_ithaca(benchmark::State& state) {
  const at::Tensor g = normal({state.range(0), I}, dtype_of(state)),
                   u = normal({state.range(0), I}, dtype_of(state));
  loop(state, [&] { benchmark::DoNotOptimize(swiglu_backward(g, g, u)); });
}
void swiglu_backward_aten(benchmark::State& state) {
  const at::Tensor g = normal({state.range(0), I}, dtype_of(state)),
                   u = normal({state.range(0), I}, dtype_of(state));
  loop(state, [&] {
    benchmark::DoNotOptimize(at::silu_backward(g * u, g));
    benchmark::DoNotOptimize(g * at::silu(g));
  });
}

// The three GEMMs alone are the floor of the head and its loss.
void head_ithaca(benchmark::State& state) {
  const int64_t n = state.range(0);
  const at::Tensor h = normal({n, C}, dtype_of(state)), w = normal({V, C}, dtype_of(state)) * 0.04,
                   labels = at::randint(V, {n}, at::kLong);
  const at::Tensor dw = at::zeros({V, C}, at::kFloat);
  loop(state, [&] { benchmark::DoNotOptimize(linear_cross_entropy_with_grad(h, w, labels, dw)); });
}
void head_three_gemms(benchmark::State& state) {
  const int64_t n = state.range(0), tile = 256;
  const at::Tensor h = normal({tile, C}, dtype_of(state)), w = normal({V, C}, dtype_of(state));
  at::Tensor logits = at::zeros({tile, V}, w.options()), dh = at::zeros({tile, C}, w.options()),
             dw = at::zeros({V, C}, w.options());
  loop(state, [&] {
    for (int64_t i = 0; i < n; i += tile) {
      at::mm_out(logits, h, w.t());
      at::mm_out(dh, logits, w);
      at::mm_out(dw, logits.t(), h);
    }
  });
}
// What a model that keeps all logits does: GEMM, float32 log-softmax, gradient, two GEMMs.
void head_aten(benchmark::State& state) {
  const int64_t n = state.range(0);
  const at::Tensor h = normal({n, C}, dtype_of(state)), w = normal({V, C}, dtype_of(state)) * 0.04,
                   labels = at::randint(V, {n, 1}, at::kLong);
  at::Tensor dw = at::zeros({V, C}, at::kFloat);
  loop(state, [&] {
    const at::Tensor logp = at::log_softmax(at::mm(h, w.t()).to(at::kFloat), 1);
    benchmark::DoNotOptimize(logp.gather(1, labels).sum());
    at::Tensor d = logp.exp();
    d.scatter_add_(1, labels, at::ones({1, 1}, at::kFloat).neg().expand({n, 1}));
    const at::Tensor narrow = d.to(w.scalar_type());
    benchmark::DoNotOptimize(at::mm(narrow, w));
    dw.add_(at::mm(narrow.t(), h));
  });
}

// Large vocabularies, hidden 1,024: dweight is read and written once a tile.
void head_large(benchmark::State& state) {
  const int64_t n = state.range(0), hidden = 1024, vocabulary = state.range(2);
  const at::Tensor h = normal({n, hidden}, dtype_of(state)),
                   w = normal({vocabulary, hidden}, dtype_of(state)) * 0.04,
                   labels = at::randint(vocabulary, {n}, at::kLong);
  const at::Tensor dw = at::zeros({vocabulary, hidden}, at::kFloat);
  loop(state, [&] { benchmark::DoNotOptimize(linear_cross_entropy_with_grad(h, w, labels, dw)); });
}

struct Heads {
  at::Tensor q, k, v;
  explicit Heads(const benchmark::State& state)
      : q(normal({1, state.range(0), H, D}, dtype_of(state))),
        k(normal({1, state.range(0), K, D}, dtype_of(state))),
        v(k.clone()) {}
};
void attention_ithaca(benchmark::State& state) {
  const Heads t(state);
  const Rows rows{{0, state.range(0)}};
  loop(state, [&] {
    benchmark::DoNotOptimize(
        attention_block(t.q, t.k, t.v, rows, rows, HeadRange::all(H, K), {}, AttentionBackend::kIthaca));
  });
}
void attention_aten(benchmark::State& state) {
  const Heads t(state);
  loop(state, [&] {
    benchmark::DoNotOptimize(at::_scaled_dot_product_flash_attention_for_cpu(
        t.q.transpose(1, 2), t.k.transpose(1, 2), t.v.transpose(1, 2), 0, true));
  });
}
void attention_backward_ithaca(benchmark::State& state) {
  const Heads t(state);
  const Rows rows{{0, state.range(0)}};
  const HeadRange heads = HeadRange::all(H, K);
  const AttentionOutput f = attention_block(t.q, t.k, t.v, rows, rows, heads, {}, AttentionBackend::kIthaca);
  loop(state, [&] {
    benchmark::DoNotOptimize(attention_block_backward(t.q, t.q, t.k, t.v, f.out, f.lse, rows, rows, heads, {},
                                                      AttentionBackend::kIthaca));
  });
}

#define ITHACA_BENCH(F) \
  BENCHMARK(F)->ArgsProduct({{4096}, {0, 1}})->Unit(benchmark::kMillisecond)->MinTime(0.3)
ITHACA_BENCH(rms_norm_ithaca);
ITHACA_BENCH(rms_norm_aten);
ITHACA_BENCH(rms_norm_backward_ithaca);
ITHACA_BENCH(rms_norm_backward_aten);
ITHACA_BENCH(rotary_ithaca);
ITHACA_BENCH(rotary_aten);
ITHACA_BENCH(swiglu_ithaca);
ITHACA_BENCH(swiglu_aten);
ITHACA_BENCH(swiglu_backward_ithaca);
ITHACA_BENCH(swiglu_backward_aten);
#define ITHACA_SLOW_BENCH(F) \
  BENCHMARK(F)->ArgsProduct({{2048}, {0, 1}})->Unit(benchmark::kMillisecond)->Iterations(1)
ITHACA_SLOW_BENCH(head_ithaca);
ITHACA_SLOW_BENCH(head_three_gemms);
ITHACA_SLOW_BENCH(head_aten);
BENCHMARK(head_large)
    ->ArgsProduct({{1024}, {0, 1}, {32768, 131072}})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(1);
ITHACA_BENCH(attention_ithaca);
ITHACA_BENCH(attention_aten);
ITHACA_BENCH(attention_backward_ithaca);

}  // namespace
}  // namespace ithaca
