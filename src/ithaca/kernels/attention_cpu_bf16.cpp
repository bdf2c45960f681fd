// bf16 with the dot products of AVX512_BF16, which Highway 1.0.3 does not know. Probabilities and dS are rounded to bf16 before
// their products, as ATen's kernel does; all sums are float32.
#include "ithaca/kernels/attention_cpu.h"

#if defined(__x86_64__)
#include <c10/util/BFloat16.h>
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

// For the functions from here to the end alone: with compiler flags for the whole file the standard library's templates
// would be compiled for this processor too, and the linker may keep those for everybody.
#if defined(__clang__)
#pragma clang attribute push(                                                                    \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,avx2,f16c,bmi2"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,avx2,f16c,bmi2")
#endif
namespace ithaca::attention::avx512_bf16 {

#include "ithaca/kernels/attention_kernel-inl.h"

struct Policy {
  using Real = float;
  using Word = uint32_t;  // two bf16 values
  using Value = c10::BFloat16;
  using Vec = __m512;
  using WordVec = __m512bh;
  static constexpr int kLanes = 16, kPair = 2, kNV = 4;
  static constexpr double kExpScale = 1.4426950408889634;

  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec set(float x) { return _mm512_set1_ps(x); }
  static Vec iota() { return _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
  static WordVec load_words(const Word* p) { return (WordVec)_mm512_loadu_si512(p); }
  static WordVec broadcast(const Word* p) { return (WordVec)_mm512_set1_epi32(static_cast<int>(*p)); }
  static Vec dot(Vec sum, WordVec a, WordVec b) { return _mm512_dpbf16_ps(sum, a, b); }
  static Vec mul_add(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec mul_sub(Vec a, Vec b, Vec c) { return _mm512_fmsub_ps(a, b, c); }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static Vec abs(Vec a) { return _mm512_abs_ps(a); }
  static float max_of(Vec a) { return _mm512_reduce_max_ps(a); }
  static float sum_of(Vec a) { return _mm512_reduce_add_ps(a); }
  static Vec minus_infinity() { return set(-std::numeric_limits<float>::infinity()); }
  static Vec keep_between(Vec x, Vec key, Vec begin, Vec end) {
    const __mmask16 inside =
        _mm512_cmp_ps_mask(key, begin, _CMP_GE_OQ) & _mm512_cmp_ps_mask(key, end, _CMP_LT_OQ);
    return _mm512_mask_blend_ps(inside, minus_infinity(), x);
  }
  static Vec keep_where(Vec x, Vec seen) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(seen, zero(), _CMP_GT_OQ), minus_infinity(), x);
  }

  // 2^x to 3e-6, a thousandth of a bf16 rounding; the maximum keeps its second operand where one is a NaN.
  static Vec exp(Vec x) {
    const Vec y = _mm512_max_ps(set(-1000), x);
    const Vec whole = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
              f = _mm512_sub_ps(y, whole);
    Vec p = set(0.009570100018360686F);
    p = mul_add(p, f, set(0.055917860170883675F));
    p = mul_add(p, f, set(0.2402474487460617F));
    p = mul_add(p, f, set(0.6931218147643843F));
    p = mul_add(p, f, set(0.9999992614316416F));
    return _mm512_scalef_ps(p, whole);
  }
  static float exp_one(float x) { return _mm512_cvtss_f32(exp(set(x))); }

  // 32 values in order: 16 words.
  static void store_along(Word* p, Vec a, Vec b) {
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(b, a));
  }
  static __m512i words(Vec low, Vec high) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
  // Word of key i: the values of two rows.
  static void store_across(Word* p, int64_t, int64_t i, Vec a0, Vec a1, Vec b0, Vec b1) {
    _mm512_storeu_si512(p + i, words(a0, b0));
    _mm512_storeu_si512(p + i + kLanes, words(a1, b1));
  }
  // D values and zeros up to Dp, a multiple of 16.
  static void copy_row(const Value* from, int64_t D, int64_t Dp, Value* to) {
    int64_t d = 0;
    for (; d + 32 <= D; d += 32) _mm512_storeu_si512(to + d, _mm512_loadu_si512(from + d));
    for (; d < Dp; d += 16) {
      const int64_t rest = std::min<int64_t>(16, D - d);
      const __mmask16 some = static_cast<__mmask16>((1U << rest) - 1);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + d), _mm256_maskz_loadu_epi16(some, from + d));
    }
  }
  static void store_values(const float* from, float factor, int64_t n, Value* to) {
    const Vec by = set(factor);
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 some = static_cast<__mmask16>((1U << std::min<int64_t>(16, n - i)) - 1);
      _mm256_mask_storeu_epi16(to + i, some,
                               (__m256i)_mm512_cvtneps_pbh(mul(_mm512_maskz_loadu_ps(some, from + i), by)));
    }
  }
  static void transpose(const Word* from, int64_t rows, int64_t W, Word* to) {
    for (int64_t w = 0; w < W; ++w)
      for (int64_t r = 0; r < rows; ++r) to[w * rows + r] = from[r * W + w];
  }
  static void interleave(const Word* from, int64_t rows, int64_t Dp, Word* to) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const int64_t W = Dp / 2;
    for (int64_t r = 0; r < rows; r += 2, from += Dp, to += Dp)
      for (int64_t w = 0; w < W; w += 8) {
        const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + w)),
                      second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + W + w));
        const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
        _mm512_storeu_si512(to + 2 * w, _mm512_permutexvar_epi16(order, both));
      }
  }

  static TileSizes forward_sizes(int64_t) { return {96, 256}; }
  static TileSizes backward_sizes(int64_t) { return {96, 256}; }
};

}  // namespace ithaca::attention::avx512_bf16
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace ithaca::attention {

const Kernels* bf16_kernels() {
  return &avx512_bf16::Kernel<avx512_bf16::Policy, c10::BFloat16>::table();
}

}  // namespace ithaca::attention
#else
namespace ithaca::attention {
const Kernels* bf16_kernels() {
  return nullptr;
}
}  // namespace ithaca::attention
#endif
