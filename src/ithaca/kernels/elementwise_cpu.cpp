// Rotary embedding and SwiGLU: every element once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ithaca/kernels/elementwise_cpu.cpp"
#include <hwy/foreach_target.h>

#include "ithaca/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ithaca::vec::HWY_NAMESPACE {

template <class T>
void rotate(const T* x, int64_t stride, T* y, const Acc<T>* cos, const Acc<T>* sin, int64_t H, int64_t D,
            bool inverse) {
  const int64_t half = D / 2;
  for (int64_t h = 0; h < H; ++h, x += stride, y += D) {
    for_each_vector<Acc<T>>(half, [&](auto d, int64_t i) HWY_ATTR {
      const auto c = load(d, cos + i), loaded = load(d, sin + i), s = inverse ? hn::Neg(loaded) : loaded;
      const auto a = load(d, x + i), b = load(d, x + half + i);
      store(d, hn::NegMulAdd(b, s, hn::Mul(a, c)), y + i);
      store(d, hn::MulAdd(a, s, hn::Mul(b, c)), y + half + i);
    });
  }
}

template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, hn::TFromD<D>(1));
  return hn::Div(one, hn::Add(one, exp(d, hn::Neg(x))));
}

template <class T>
void gated(const T* gate, const T* up, T* y, int64_t n) {
  for_each_vector<Acc<T>>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto g = load(d, gate + i);
    store(d, hn::Mul(hn::Mul(g, sigmoid(d, g)), load(d, up + i)), y + i);
  });
}

template <class T>
void gated_backward(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t n) {
  for_each_vector<Acc<T>>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto g = load(d, gate + i), dv = load(d, dy + i), s = sigmoid(d, g), one = hn::Set(d, Acc<T>(1));
    store(d, hn::Mul(dv, hn::Mul(g, s)), dup + i);
    const auto slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(one, s), one));
    store(d, hn::Mul(hn::Mul(dv, load(d, up + i)), slope), dgate + i);
  });
}

#define ITHACA_KERNELS(NAME, T)                                                                        \
  void Rotary##NAME(const T* x, int64_t stride, T* y, const Acc<T>* cos, const Acc<T>* sin, int64_t H, \
                    int64_t D, bool inv) {                                                             \
    rotate(x, stride, y, cos, sin, H, D, inv);                                                         \
  }                                                                                                    \
  void Swiglu##NAME(const T* gate, const T* up, T* y, int64_t n) {                                     \
    gated(gate, up, y, n);                                                                             \
  }                                                                                                    \
  void SwigluBackward##NAME(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t n) {    \
    gated_backward(dy, gate, up, dgate, dup, n);                                                       \
  }
ITHACA_KERNELS(F32, float)
ITHACA_KERNELS(F64, double)
ITHACA_KERNELS(Bf16, c10::BFloat16)
#undef ITHACA_KERNELS

}  // namespace ithaca::vec::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ithaca::vec {
#define ITHACA_KERNELS(NAME, T)                                                                        \
  HWY_EXPORT(Rotary##NAME);                                                                            \
  HWY_EXPORT(Swiglu##NAME);                                                                            \
  HWY_EXPORT(SwigluBackward##NAME);                                                                    \
  void rotary_heads(const T* x, int64_t stride, T* y, const Acc<T>* cos, const Acc<T>* sin, int64_t H, \
                    int64_t D, bool inverse) {                                                         \
    HWY_DYNAMIC_DISPATCH(Rotary##NAME)(x, stride, y, cos, sin, H, D, inverse);                         \
  }                                                                                                    \
  void swiglu_row(const T* gate, const T* up, T* y, int64_t n) {                                       \
    HWY_DYNAMIC_DISPATCH(Swiglu##NAME)(gate, up, y, n);                                                \
  }                                                                                                    \
  void swiglu_backward_row(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t n) {     \
    HWY_DYNAMIC_DISPATCH(SwigluBackward##NAME)(dy, gate, up, dgate, dup, n);                           \
  }
ITHACA_KERNELS(F32, float)
ITHACA_KERNELS(F64, double)
ITHACA_KERNELS(Bf16, c10::BFloat16)
#undef ITHACA_KERNELS
}  // namespace ithaca::vec
#endif
