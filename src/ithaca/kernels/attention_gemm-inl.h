// The matrix products of attention_kernel-inl.h, in registers; included by it.

#ifndef ITHACA_UNROLL
#if defined(__clang__)
#define ITHACA_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ITHACA_UNROLL _Pragma("GCC unroll 8")
#endif
#endif

constexpr int64_t kRowsMax = 6;  // of a register tile

enum class Into { kSet, kAdd, kScaledAdd };

// c[MR, NV vectors] = / += a[MR, depth] b[depth, NV vectors] in words; kScaledAdd multiplies row r of c by
// factor[r] first. kAcross: a is stored transposed.
template <class V, int MR, int NV, bool kAcross, Into kInto>
inline void register_tile(const typename V::Word* a, int64_t lda, const typename V::Word* b, int64_t ldb,
                          int64_t depth, typename V::Real* c, int64_t ldc, const typename V::Real* factor) {
  typename V::Vec acc[MR][NV];
  ITHACA_UNROLL
  for (int r = 0; r < MR; ++r) ITHACA_UNROLL
  for (int j = 0; j < NV; ++j) acc[r][j] = V::zero();
  for (int64_t k = 0; k < depth; ++k) {
    typename V::WordVec right[NV];
    ITHACA_UNROLL
    for (int j = 0; j < NV; ++j) right[j] = V::load_words(b + j * V::kLanes);
    ITHACA_UNROLL
    for (int r = 0; r < MR; ++r) {
      const typename V::WordVec left = V::broadcast(kAcross ? a + r : a + r * lda);
      ITHACA_UNROLL
      for (int j = 0; j < NV; ++j) acc[r][j] = V::dot(acc[r][j], left, right[j]);
    }
    a += kAcross ? lda : 1;
    b += ldb;
  }
  ITHACA_UNROLL
  for (int r = 0; r < MR; ++r) ITHACA_UNROLL
  for (int j = 0; j < NV; ++j) {
    typename V::Real* to = c + r * ldc + j * V::kLanes;
    if constexpr (kInto == Into::kSet) {
      V::store(to, acc[r][j]);
    } else if constexpr (kInto == Into::kAdd) {
      V::store(to, V::add(acc[r][j], V::load(to)));
    } else {
      V::store(to, V::mul_add(V::load(to), V::set(factor[r]), acc[r][j]));
    }
  }
}

template <class V, int NV, bool kAcross, Into kInto>
inline void column_strip(int64_t rows, const typename V::Word* a, int64_t lda, const typename V::Word* b,
                         int64_t ldb, int64_t depth, typename V::Real* c, int64_t ldc,
                         const typename V::Real* factor) {
  int64_t r = 0;
  const auto from = [&](int64_t row) { return kAcross ? a + row : a + row * lda; };
  for (; r + 6 <= rows; r += 6)
    register_tile<V, 6, NV, kAcross, kInto>(from(r), lda, b, ldb, depth, c + r * ldc, ldc, factor + r);
  for (; r + 2 <= rows; r += 2)
    register_tile<V, 2, NV, kAcross, kInto>(from(r), lda, b, ldb, depth, c + r * ldc, ldc, factor + r);
}

// rows even, columns a multiple of kLanes.
template <class V, bool kAcross, Into kInto>
inline void multiply(int64_t rows, int64_t columns, const typename V::Word* a, int64_t lda,
                     const typename V::Word* b, int64_t ldb, int64_t depth, typename V::Real* c, int64_t ldc,
                     const typename V::Real* factor = nullptr) {
  const int64_t vectors = columns / V::kLanes, strips = (vectors + V::kNV - 1) / V::kNV;
  for (int64_t s = 0, done = 0; s < strips; ++s) {
    const int64_t n = (vectors - done + (strips - s) - 1) / (strips - s), at = done * V::kLanes;
    done += n;
    if constexpr (V::kNV >= 4) {
      if (n == 4) column_strip<V, 4, kAcross, kInto>(rows, a, lda, b + at, ldb, depth, c + at, ldc, factor);
      if (n == 3) column_strip<V, 3, kAcross, kInto>(rows, a, lda, b + at, ldb, depth, c + at, ldc, factor);
    }
    if (n == 2) column_strip<V, 2, kAcross, kInto>(rows, a, lda, b + at, ldb, depth, c + at, ldc, factor);
    if (n == 1) column_strip<V, 1, kAcross, kInto>(rows, a, lda, b + at, ldb, depth, c + at, ldc, factor);
  }
}
