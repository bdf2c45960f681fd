// float32 and float64 on every instruction set (Google Highway, chosen at run time); bf16 and fp16 are widened when they
// are packed.
#include "ithaca/kernels/attention_cpu.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

// The register tile is an array of vectors, so their size must be known; and what lies between the three kept
// x86 targets, or above them in later versions of Highway, gains nothing here.
#include <hwy/detect_targets.h>
// Zero where this version has no such target.
#ifndef HWY_AVX3_ZEN4
#define HWY_AVX3_ZEN4 0
#endif
#ifndef HWY_AVX3_SPR
#define HWY_AVX3_SPR 0
#endif
#ifndef HWY_AVX10_2
#define HWY_AVX10_2 0
#endif
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS                                                                              \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_AVX10_2 | HWY_SVE | HWY_SVE2 | \
   HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ithaca/kernels/attention_cpu.cpp"
#include <hwy/foreach_target.h>

#include "ithaca/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ithaca::attention::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#include "ithaca/kernels/attention_kernel-inl.h"

template <class R>
struct Policy {
  using Real = R;
  using Word = R;
  using Value = R;
  using D = hn::ScalableTag<R>;
  using Vec = hn::Vec<D>;
  using WordVec = Vec;
  static constexpr int kLanes = static_cast<int>(HWY_LANES(R));
  static constexpr int kPair = 1, kNV = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
  // float32 counts in powers of two, whose exponential is cheaper.
  static constexpr bool kBinary = sizeof(R) == 4;
  static constexpr double kExpScale = kBinary ? 1.4426950408889634 : 1;

  static HWY_INLINE Vec zero() { return hn::Zero(D()); }
  static HWY_INLINE Vec set(R x) { return hn::Set(D(), x); }
  static HWY_INLINE Vec iota() { return hn::Iota(D(), R(0)); }
  static HWY_INLINE Vec load(const R* p) { return hn::LoadU(D(), p); }
  static HWY_INLINE void store(R* p, Vec x) { hn::StoreU(x, D(), p); }
  static HWY_INLINE Vec load_words(const R* p) { return hn::LoadU(D(), p); }
  static HWY_INLINE Vec broadcast(const R* p) { return hn::Set(D(), *p); }
  static HWY_INLINE Vec dot(Vec sum, Vec a, Vec b) { return hn::MulAdd(a, b, sum); }
  static HWY_INLINE Vec mul_add(Vec a, Vec b, Vec c) { return hn::MulAdd(a, b, c); }
  static HWY_INLINE Vec mul_sub(Vec a, Vec b, Vec c) { return hn::MulSub(a, b, c); }
  static HWY_INLINE Vec add(Vec a, Vec b) { return hn::Add(a, b); }
  static HWY_INLINE Vec sub(Vec a, Vec b) { return hn::Sub(a, b); }
  static HWY_INLINE Vec mul(Vec a, Vec b) { return hn::Mul(a, b); }
  static HWY_INLINE Vec max(Vec a, Vec b) { return hn::Max(a, b); }
  static HWY_INLINE Vec abs(Vec a) { return hn::Abs(a); }
  static HWY_INLINE R max_of(Vec a) { return hn::GetLane(hn::MaxOfLanes(D(), a)); }
  static HWY_INLINE R sum_of(Vec a) { return hn::GetLane(hn::SumOfLanes(D(), a)); }
  static HWY_INLINE Vec keep_between(Vec x, Vec key, Vec begin, Vec end) {
    return hn::IfThenElse(hn::And(hn::Ge(key, begin), hn::Lt(key, end)), x, hn::Neg(hn::Inf(D())));
  }
  static HWY_INLINE Vec keep_where(Vec x, Vec seen) {
    return hn::IfThenElse(hn::Gt(seen, zero()), x, hn::Neg(hn::Inf(D())));
  }

  static HWY_INLINE Vec exp(Vec x) {
    if constexpr (kBinary) {
      return exp2(x);
    } else {
      return vec::HWY_NAMESPACE::exp(D(), x);
    }
  }
  // 2^x to 8e-8 for x up to 127.5, infinity above, 0 below -126; a NaN stays one.
  static HWY_INLINE Vec exp2(Vec x) {
    const D d;
    const hn::RebindToSigned<D> di;
    const Vec low = set(R(-127));
    const Vec y = hn::IfThenElse(hn::Lt(x, low), low, x);
    const Vec whole = hn::Round(y), f = hn::Sub(y, whole);
    Vec p = set(R(0.0013276470117151197));
    for (const double c :
         {0.00967554131949444, 0.0555071327929933, 0.24022119724212387, 0.693146967061209, 1.00000007165457})
      p = hn::MulAdd(p, f, set(static_cast<R>(c)));
    // -127 has a biased exponent of 0: the power is 0. 128 has one of 255: infinity.
    const auto exponent = hn::Min(hn::ConvertTo(di, whole), hn::Set(di, 128));
    const auto power = hn::ShiftLeft<23>(hn::Add(exponent, hn::Set(di, 127)));
    return hn::Mul(p, hn::BitCast(d, power));
  }
  static HWY_INLINE R exp_one(R x) { return hn::GetLane(exp(set(x))); }

  static HWY_INLINE void store_along(R* p, Vec a, Vec b) {
    store(p, a);
    store(p + kLanes, b);
  }
  static HWY_INLINE void store_across(R* p, int64_t ld, int64_t i, Vec a0, Vec a1, Vec b0, Vec b1) {
    store_along(p + i, a0, a1);
    store_along(p + ld + i, b0, b1);
  }
  // D values and zeros up to Dp.
  static HWY_INLINE void copy_row(const R* from, int64_t head_dim, int64_t Dp, R* to) {
    const int64_t whole = head_dim / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) store(to + i, load(from + i));
    for (int64_t i = whole; i < head_dim; ++i) to[i] = from[i];
    for (int64_t i = head_dim; i < Dp; ++i) to[i] = 0;
  }
  template <class T>
  static void store_values(const R* from, R factor, int64_t n, T* to) {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(from[i] * factor);
  }
  // [rows][W] to [W][rows]
  static void transpose(const R* from, int64_t rows, int64_t W, R* to) {
    for (int64_t w = 0; w < W; ++w)
      for (int64_t r = 0; r < rows; ++r) to[w * rows + r] = from[r * W + w];
  }
  static void interleave(const R* from, int64_t rows, int64_t Dp, R* to) {
    std::memcpy(to, from, static_cast<size_t>(rows * Dp) * sizeof(R));
  }

  static TileSizes forward_sizes(int64_t head_dim) {
    return {96, head_dim * static_cast<int64_t>(sizeof(R)) <= 256 ? 256 : 128};
  }
  static TileSizes backward_sizes(int64_t head_dim) { return forward_sizes(head_dim); }
};

const Kernels* kernels(Element element) {
  switch (element) {
    case Element::kFloat:
      return &Kernel<Policy<float>, float>::table();
    case Element::kDouble:
      return &Kernel<Policy<double>, double>::table();
    case Element::kBFloat16:
      return &Kernel<Policy<float>, c10::BFloat16>::table();
    case Element::kHalf:
      break;
  }
  return &Kernel<Policy<float>, c10::Half>::table();
}

}  // namespace ithaca::attention::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ithaca::attention {

HWY_EXPORT(kernels);

namespace {

#if HWY_ARCH_X86 && (HWY_TARGETS & (HWY_TARGETS - 1)) != 0
// Of the compiled targets the best that the tier has; a smaller bit is a better target.
const Kernels* of_tier(Element element, CpuTier tier) {
  const int64_t allowed = tier == CpuTier::kBaseline ? ~(2 * HWY_AVX2 - 1)
                          : tier == CpuTier::kAvx2   ? ~(HWY_AVX2 - 1)
                                                     : ~int64_t{0};
  hwy::ChosenTarget chosen;
  chosen.Update(hwy::SupportedTargets() & allowed);
  return HWY_DISPATCH_TABLE(kernels)[chosen.GetIndex()](element);
}
#else  // one target was compiled, or the tiers are another architecture's
const Kernels* of_tier(Element element, CpuTier) {
  return HWY_DYNAMIC_DISPATCH(kernels)(element);
}
#endif

}  // namespace

const Kernels& kernels_for(Element element, CpuTier tier) {
  if (element == Element::kBFloat16 && tier == CpuTier::kAvx512Bf16)
    if (const Kernels* native = bf16_kernels()) return *native;
  return *of_tier(element, tier);
}

}  // namespace ithaca::attention
#endif
