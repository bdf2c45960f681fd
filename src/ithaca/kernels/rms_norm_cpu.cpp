#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ithaca/kernels/rms_norm_cpu.cpp"
#include <hwy/foreach_target.h>

#include "ithaca/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ithaca::vec::HWY_NAMESPACE {

template <class T>
void forward(const T* x, const T* weight, T* y, Acc<T>* rstd, int64_t rows, int64_t C, double eps) {
  using A = Acc<T>;
  for (int64_t r = 0; r < rows; ++r, x += C, y += C) {
    const A squares = sum_of<A>(C, [&](auto d, int64_t i) HWY_ATTR {
      const auto v = load(d, x + i);
      return hn::Mul(v, v);
    });
    const A scale = A(1) / std::sqrt(squares / static_cast<A>(C) + static_cast<A>(eps));
    rstd[r] = scale;
    for_each_vector<A>(C, [&](auto d, int64_t i) HWY_ATTR {
      const auto normed = rounded<T>(d, hn::Mul(load(d, x + i), hn::Set(d, scale)));
      store(d, hn::Mul(normed, load(d, weight + i)), y + i);
    });
  }
}

template <class T>
void backward(const T* dy, const T* x, const T* weight, const Acc<T>* rstd, T* dx, Acc<T>* dweight,
              int64_t rows, int64_t C) {
  using A = Acc<T>;
  for (int64_t r = 0; r < rows; ++r, dy += C, x += C, dx += C) {
    const A scale = rstd[r];
    const A product = sum_of<A>(C, [&](auto d, int64_t i) HWY_ATTR {
      return hn::Mul(hn::Mul(load(d, dy + i), load(d, weight + i)), load(d, x + i));
    });
    const A mean = product * scale * scale / static_cast<A>(C);
    for_each_vector<A>(C, [&](auto d, int64_t i) HWY_ATTR {
      const auto g = load(d, dy + i), v = load(d, x + i), s = hn::Set(d, scale);
      const auto inner = hn::NegMulAdd(v, hn::Set(d, mean), hn::Mul(g, load(d, weight + i)));
      store(d, hn::Mul(inner, s), dx + i);
      store(d, hn::MulAdd(g, hn::Mul(v, s), load(d, dweight + i)), dweight + i);
    });
  }
}

#define ITHACA_KERNELS(NAME, T)                                                                         \
  void Forward##NAME(const T* x, const T* w, T* y, Acc<T>* rstd, int64_t rows, int64_t C, double eps) { \
    forward(x, w, y, rstd, rows, C, eps);                                                               \
  }                                                                                                     \
  void Backward##NAME(const T* dy, const T* x, const T* w, const Acc<T>* rstd, T* dx, Acc<T>* dw,       \
                      int64_t rows, int64_t C) {                                                        \
    backward(dy, x, w, rstd, dx, dw, rows, C);                                                          \
  }
ITHACA_KERNELS(F32, float)
ITHACA_KERNELS(F64, double)
ITHACA_KERNELS(Bf16, c10::BFloat16)
#undef ITHACA_KERNELS

}  // namespace ithaca::vec::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ithaca::vec {
#define ITHACA_KERNELS(NAME, T)                                                                           \
  HWY_EXPORT(Forward##NAME);                                                                              \
  HWY_EXPORT(Backward##NAME);                                                                             \
  void rms_norm_rows(const T* x, const T* w, T* y, Acc<T>* rstd, int64_t rows, int64_t C, double eps) {   \
    HWY_DYNAMIC_DISPATCH(Forward##NAME)(x, w, y, rstd, rows, C, eps);                                     \
  }                                                                                                       \
  void rms_norm_backward_rows(const T* dy, const T* x, const T* w, const Acc<T>* rstd, T* dx, Acc<T>* dw, \
                              int64_t rows, int64_t C) {                                                  \
    HWY_DYNAMIC_DISPATCH(Backward##NAME)(dy, x, w, rstd, dx, dw, rows, C);                                \
  }
ITHACA_KERNELS(F32, float)
ITHACA_KERNELS(F64, double)
ITHACA_KERNELS(Bf16, c10::BFloat16)
#undef ITHACA_KERNELS
}  // namespace ithaca::vec
#endif
