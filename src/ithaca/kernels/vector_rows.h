// Rows of the vectorised CPU kernels: raw pointers, one thread, no torch. Each runs the best instruction set
// that the machine has (Google Highway, chosen at run time). Acc<T> is opmath(T); bf16 is widened on load and
// rounded to nearest even on store.
#pragma once
#include <c10/util/BFloat16.h>

#include <cstdint>
#include <type_traits>

namespace ithaca::vec {

template <class T>
using Acc = std::conditional_t<std::is_same_v<T, double>, double, float>;

// x, y [rows, C]; weight [C]; rstd [rows]
#define ITHACA_DECLARE(T)                                                                                     \
  void rms_norm_rows(const T* x, const T* weight, T* y, Acc<T>* rstd, int64_t rows, int64_t C, double eps);   \
  /* dweight [C] is added to. */                                                                              \
  void rms_norm_backward_rows(const T* dy, const T* x, const T* weight, const Acc<T>* rstd, T* dx,            \
                              Acc<T>* dweight, int64_t rows, int64_t C);                                      \
  /* One position: H heads of size D, `stride` elements apart in x, dense in y; cos, sin [D / 2]. */          \
  void rotary_heads(const T* x, int64_t stride, T* y, const Acc<T>* cos, const Acc<T>* sin, int64_t H,        \
                    int64_t D, bool inverse);                                                                 \
  void swiglu_row(const T* gate, const T* up, T* y, int64_t n);                                               \
  void swiglu_backward_row(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t n);             \
  /* Sum of a[i] b[i]. */                                                                                     \
  Acc<T> dot(const T* a, const T* b, int64_t n);                                                              \
  /* Loss of one row of logits [V], whose logit of the label is `label_logit` (logits[label] itself is not  \
     read: the caller may know it better). gradient: logits become softmax - one_hot(label). */ \
  Acc<T> cross_entropy_row(T* logits, int64_t V, int64_t label, Acc<T> label_logit, bool gradient);           \
  /* to[i] += from[i] */                                                                                      \
  void accumulate_row(Acc<T>* to, const T* from, int64_t n);

ITHACA_DECLARE(float)
ITHACA_DECLARE(double)
ITHACA_DECLARE(c10::BFloat16)
#undef ITHACA_DECLARE

}  // namespace ithaca::vec
