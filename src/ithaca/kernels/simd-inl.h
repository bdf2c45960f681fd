// Included once an instruction set by the *_cpu.cpp files (Highway's foreach_target): loads that widen,
// stores that round, loops with a tail, exp. No include guard of the usual kind: the toggle lets each target
// have its own copy.
#if defined(ITHACA_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ITHACA_KERNELS_SIMD_INL_H_
#undef ITHACA_KERNELS_SIMD_INL_H_
#else
#define ITHACA_KERNELS_SIMD_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "ithaca/kernels/vector_rows.h"

HWY_BEFORE_NAMESPACE();
namespace ithaca::vec::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const hn::TFromD<D>* p) {
  return hn::LoadU(d, p);
}

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const c10::BFloat16* p) {
  const hn::RebindToUnsigned<D> d32;
  const hn::Rebind<uint16_t, D> d16;
  return hn::BitCast(
      d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)))));
}

template <class D>
HWY_INLINE void store(D d, hn::Vec<D> v, hn::TFromD<D>* p) {
  hn::StoreU(v, d, p);
}

// Round to nearest even; a NaN stays one (adding to its bits could carry into the sign).
template <class D>
HWY_INLINE void store(D d, hn::Vec<D> v, c10::BFloat16* p) {
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> signed32;
  const hn::Rebind<uint16_t, D> d16;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1));
  const auto rounded = hn::Add(hn::Add(bits, odd), hn::Set(d32, 0x7fff));
  const auto kept = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), hn::Set(d32, 0x7fc00000), rounded);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(signed32, hn::ShiftRight<16>(kept))), d16,
             reinterpret_cast<uint16_t*>(p));
}

// The value that a store and a load would give back.
template <class T, class D>
HWY_INLINE hn::Vec<D> rounded([[maybe_unused]] D d, hn::Vec<D> v) {
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    const hn::RebindToUnsigned<D> d32;
    const auto bits = hn::BitCast(d32, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1));
    const auto up = hn::And(hn::Add(hn::Add(bits, odd), hn::Set(d32, 0x7fff)), hn::Set(d32, 0xffff0000));
    return hn::IfThenElse(hn::IsNaN(v), v, hn::BitCast(d, up));
  } else {
    return v;
  }
}

// f(tag, i) for whole vectors from i, then element by element.
template <class A, class F>
HWY_INLINE void for_each_vector(int64_t n, F f) {
  const hn::ScalableTag<A> d;
  const hn::CappedTag<A, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(d, i);
  for (; i < n; ++i) f(one, i);
}

// Sum of f(tag, i) over all elements, in four lines of partial sums (additions would wait for one another).
template <class A, class F>
HWY_INLINE A sum_of(int64_t n, F f) {
  const hn::ScalableTag<A> d;
  const hn::CappedTag<A, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::Add(s0, f(d, i));
    s1 = hn::Add(s1, f(d, i + lanes));
    s2 = hn::Add(s2, f(d, i + 2 * lanes));
    s3 = hn::Add(s3, f(d, i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) s0 = hn::Add(s0, f(d, i));
  A sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < n; ++i) sum += hn::GetLane(f(one, i));
  return sum;
}

// Highway's exp (1 ulp) turns a NaN into 0 and is undefined above its range: a NaN must show, and e^x is
// infinite there.
template <class D>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  using A = hn::TFromD<D>;
  const auto limit = hn::Set(d, sizeof(A) == 8 ? A(709) : A(88));
  const auto y = hn::Exp(d, hn::Min(x, limit));
  const auto large = hn::IfThenElse(hn::Gt(x, limit), hn::Inf(d), y);
  return hn::IfThenElse(hn::IsNaN(x), x, large);
}

}  // namespace ithaca::vec::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
