#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ithaca/kernels/linear_cross_entropy_cpu.cpp"
#include <hwy/foreach_target.h>

#include "ithaca/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ithaca::vec::HWY_NAMESPACE {

// A NaN among them may be lost here; the sum of exponentials shows it.
template <class T>
HWY_INLINE Acc<T> max_of(const T* x, int64_t n, Acc<T> start) {
  using A = Acc<T>;
  const hn::ScalableTag<A> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto m0 = hn::Set(d, start), m1 = m0;
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    m0 = hn::Max(m0, load(d, x + i));
    m1 = hn::Max(m1, load(d, x + i + lanes));
  }
  A best = hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
  for (; i < n; ++i) best = std::max(best, static_cast<A>(x[i]));
  return best;
}

// The label's own logit is kept apart: set to -inf in the row, so that `others` sums the rest. Its gradient
// -others / sum has no cancellation, and a loss near 0 stays above it.
template <class T>
Acc<T> cross_entropy(T* logits, int64_t V, int64_t label, Acc<T> label_logit, bool gradient) {
  using A = Acc<T>;
  logits[label] = static_cast<T>(-std::numeric_limits<A>::infinity());
  const A top = max_of(logits, V, label_logit);
  const A others = sum_of<A>(
      V, [&](auto d, int64_t i) HWY_ATTR { return exp(d, hn::Sub(load(d, logits + i), hn::Set(d, top))); });
  const A sum = others + std::exp(label_logit - top);
  if (gradient) {
    const A inverse = A(1) / sum;
    for_each_vector<A>(V, [&](auto d, int64_t i) HWY_ATTR {
      store(d, hn::Mul(exp(d, hn::Sub(load(d, logits + i), hn::Set(d, top))), hn::Set(d, inverse)),
            logits + i);
    });
    logits[label] = static_cast<T>(-others * inverse);
  }
  return std::log(sum) + (top - label_logit);
}

template <class T>
Acc<T> dot_product(const T* a, const T* b, int64_t n) {
  return sum_of<Acc<T>>(n,
                        [&](auto d, int64_t i) HWY_ATTR { return hn::Mul(load(d, a + i), load(d, b + i)); });
}

template <class T>
void accumulate(Acc<T>* to, const T* from, int64_t n) {
  for_each_vector<Acc<T>>(
      n, [&](auto d, int64_t i) HWY_ATTR { store(d, hn::Add(load(d, to + i), load(d, from + i)), to + i); });
}

#define ITHACA_KERNELS(NAME, T)                                                                       \
  Acc<T> CrossEntropy##NAME(T* logits, int64_t V, int64_t label, Acc<T> label_logit, bool gradient) { \
    return cross_entropy(logits, V, label, label_logit, gradient);                                    \
  }                                                                                                   \
  Acc<T> Dot##NAME(const T* a, const T* b, int64_t n) {                                               \
    return dot_product(a, b, n);                                                                      \
  }                                                                                                   \
  void Accumulate##NAME(Acc<T>* to, const T* from, int64_t n) {                                       \
    accumulate(to, from, n);                                                                          \
  }
ITHACA_KERNELS(F32, float)
ITHACA_KERNELS(F64, double)
ITHACA_KERNELS(Bf16, c10::BFloat16)
#undef ITHACA_KERNELS

}  // namespace ithaca::vec::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ithaca::vec {
#define ITHACA_KERNELS(NAME, T)                                                                      \
  HWY_EXPORT(CrossEntropy##NAME);                                                                    \
  HWY_EXPORT(Dot##NAME);                                                                             \
  HWY_EXPORT(Accumulate##NAME);                                                                      \
  Acc<T> cross_entropy_row(T* logits, int64_t V, int64_t label, Acc<T> label_logit, bool gradient) { \
    return HWY_DYNAMIC_DISPATCH(CrossEntropy##NAME)(logits, V, label, label_logit, gradient);        \
  }                                                                                                  \
  Acc<T> dot(const T* a, const T* b, int64_t n) {                                                    \
    return HWY_DYNAMIC_DISPATCH(Dot##NAME)(a, b, n);                                                 \
  }                                                                                                  \
  void accumulate_row(Acc<T>* to, const T* from, int64_t n) {                                        \
    HWY_DYNAMIC_DISPATCH(Accumulate##NAME)(to, from, n);                                             \
  }
ITHACA_KERNELS(F32, float)
ITHACA_KERNELS(F64, double)
ITHACA_KERNELS(Bf16, c10::BFloat16)
#undef ITHACA_KERNELS
}  // namespace ithaca::vec
#endif
