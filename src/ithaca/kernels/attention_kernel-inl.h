// The kernel of attention_cpu.h over a vector policy V, included once an instruction set into a namespace of
// its own (no include guard). V has: Real, Word, kPair, kLanes, kNV (vectors a row of the register tile), Vec,
// WordVec, Mask and the operations used below. kExpScale: V::exp(x) is e^(x / kExpScale).

using std::int64_t;

constexpr int64_t kRowsMax = 6;  // of a register tile

enum class Into { kSet, kAdd, kScaledAdd };

// c[MR, NV vectors] = / += a[MR, depth] b[depth, NV vectors] in words; kScaledAdd multiplies row r of c by
// factor[r] first. kAcross: a is stored transposed.
template <class V, int MR, int NV, bool kAcross, Into kInto>
inline void register_tile(const typename V::Word* a, int64_t lda, const typename V::Word* b, int64_t ldb,
                          int64_t depth, typename V::Real* c, int64_t ldc, const typename V::Real* factor) {
  typename V::Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) acc[r][j] = V::zero();
  for (int64_t k = 0; k < depth; ++k) {
    typename V::WordVec right[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) right[j] = V::load_words(b + j * V::kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      const typename V::WordVec left = V::broadcast(kAcross ? a + r : a + r * lda);
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) acc[r][j] = V::dot(acc[r][j], left, right[j]);
    }
    a += kAcross ? lda : 1;
    b += ldb;
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
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

inline int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

// Keys a row of scores is apart: one line off a power of two, so that columns do not share cache sets.
inline int64_t score_stride(int64_t keys) {
  return keys + 16;
}

template <class V, class T>
struct Kernel {
  using Real = typename V::Real;
  using Word = typename V::Word;
  using Vec = typename V::Vec;
  static constexpr int64_t kPair = V::kPair, kLanes = V::kLanes;

  static const T* element(const View& view, int64_t batch, int64_t row, int64_t head) {
    return static_cast<const T*>(view.data) + batch * view.batch + row * view.row + head * view.head;
  }

  // ---- packing

  // One row of D values as W words.
  static void pack_row(const T* from, int64_t D, int64_t Dp, Word* to) {
    using Value = typename V::Value;
    Value* values = reinterpret_cast<Value*>(to);
    if constexpr (std::is_same_v<T, Value>) {
      V::copy_row(from, D, Dp, values);
    } else {
      for (int64_t d = 0; d < D; ++d) values[d] = static_cast<Value>(from[d]);
      for (int64_t d = D; d < Dp; ++d) values[d] = Value(0);
    }
  }

  static void pack_keys(const Problem& p, const Unit& unit, const KeyPiece& piece, const KeyBlock& block,
                        const UnitMemory& memory, bool backward, void* scratch) {
    const int64_t Dp = p.padded_D(), W = Dp / kPair;
    Word* rows = static_cast<Word*>(scratch);
    for (int64_t begin = block.begin; begin < block.begin + block.length; begin += kPanel) {
      const int64_t n = std::min(kPanel, block.begin + block.length - begin), padded = round_up(n, kKeyAlign);
      const int64_t packed = piece.packed + begin;
      for (const bool of_v : {false, true}) {
        for (int64_t i = 0; i < n; ++i)
          pack_row(element(of_v ? p.v : p.k, unit.batch, piece.offset + begin + i, unit.kv_head), p.D, Dp,
                   rows + i * W);
        std::memset(static_cast<void*>(rows + n * W), 0,
                    static_cast<size_t>((padded - n) * W) * sizeof(Word));
        if (!of_v || backward)
          V::transpose(rows, padded, W,
                       static_cast<Word*>(of_v ? memory.v_panels : memory.k_panels) + packed * W);
        if (of_v != backward)
          V::interleave(rows, padded, Dp,
                        static_cast<Word*>(of_v ? memory.v_pairs : memory.k_pairs) + packed * W);
      }
    }
  }

  // ---- what a row may see of a run

  struct Interval {
    Real begin, end;  // keys of the run
  };
  static Interval interval(const AttentionPattern& pattern, int64_t position, const KeyPiece& piece,
                           const KeyRun& run) {
    int64_t first = 0, last = std::min(run.end, piece.length) - run.begin;
    const int64_t at = position - piece.start - run.begin;  // the key of the query's own position
    if (pattern.causal) last = std::min(last, at + 1);
    if (pattern.window > 0) {
      first = std::max(first, at - pattern.window + 1);
      if (!pattern.causal) last = std::min(last, at + pattern.window);
    }
    return {static_cast<Real>(first), static_cast<Real>(std::max(first, last))};
  }

  // 1 where the sparse blocks let a position see a key of the run, else 0.
  static void sparse_row(const SparseBlocks& sparse, int64_t position, const KeyPiece& piece,
                         const KeyRun& run, Real* seen) {
    const int64_t block = sparse.block, q_block = position / block;
    for (int64_t n = run.begin; n < run.end;) {
      const int64_t k_block = (piece.start + n) / block,
                    end = std::min(run.end, (k_block + 1) * block - piece.start);
      const Real value = sparse.allows(q_block, k_block) ? Real(1) : Real(0);
      for (; n < end; ++n) seen[n - run.begin] = value;
    }
  }

  // What changes the scores of one row besides the scale.
  struct RowRule {
    bool masked = false;
    Interval seen{};
    const Real* sparse = nullptr;
    bool alibi = false;
    Real slope = 0, at = 0;  // the key of the query's own position, in keys of the run
  };
  // Scores of keys [n, n + kLanes) in exp's units, less `shift`; a forbidden one is -infinity. kPlain: the rule
  // says nothing.
  template <bool kPlain>
  static Vec score(Vec s, const RowRule& rule, Vec exp_scale, Vec shift, int64_t n) {
    Vec x = V::mul_sub(s, exp_scale, shift);
    if constexpr (kPlain) return x;
    const Vec key = V::add(V::iota(), V::set(static_cast<Real>(n)));
    if (rule.alibi) x = V::sub(x, V::mul(V::abs(V::sub(key, V::set(rule.at))), V::set(rule.slope)));
    if (rule.masked) {
      x = V::keep_between(x, key, V::set(rule.seen.begin), V::set(rule.seen.end));
      if (rule.sparse) x = V::keep_where(x, V::load(rule.sparse + n));
    }
    return x;
  }

  // The rules of a tile's rows for one run; false where every row is plain, and none is written.
  static bool make_rules(const Problem& p, const QueryTile& tile, const KeyPiece& piece, const KeyRun& run,
                         int64_t ld, Real* sparse, RowRule* rules) {
    // A negative scale would turn the largest plain score into the smallest.
    if (run.whole && !p.slopes && p.scale > 0) return false;
    RowRule rule;
    for (int64_t i = 0; i < tile.length; ++i) {
      const int64_t position = tile.start + i;
      rule.masked = !run.whole;
      if (rule.masked) rule.seen = interval(*p.pattern, position, piece, run);
      if (rule.masked && p.pattern->sparse.enabled()) {
        sparse_row(p.pattern->sparse, position, piece, run, sparse + i * ld);
        rule.sparse = sparse + i * ld;
      }
      rule.alibi = p.slopes != nullptr;
      rule.at = static_cast<Real>(position - piece.start - run.begin);
      for (int64_t h = 0; h < tile.heads; ++h) {
        if (p.slopes) rule.slope = static_cast<Real>(p.slopes[tile.head + h] * V::kExpScale);
        *rules++ = rule;
      }
    }
    *rules = rule;  // of the row that fills up
    return true;
  }

  // ---- forward

  struct ForwardScratch {
    Word* q;       // [rows][W]
    Real* scores;  // [rows][ld]
    Word* p;       // [rows][ld / pair]: the scores' own place where a word is a value
    Real* out;     // [rows][Dp]
    Real *max, *sum, *factor;
    Real* sparse;  // [rows][ld]
    RowRule* rules;
  };
  struct BackwardScratch {
    Word* p;         // [rows / pair][ld]: pairs along rows
    Word* ds;        // the same
    Word* ds_along;  // [rows][ld / pair]: pairs along keys; ds itself where a word is a value
    Real* sparse;
    RowRule* rules;
  };

  struct Arena {
    char* next;
    template <class X>
    X* take(int64_t n) {
      X* p = reinterpret_cast<X*>(next);
      next += round_up(n * static_cast<int64_t>(sizeof(X)), 64);
      return p;
    }
  };
  static ForwardScratch forward_scratch(Arena& arena, int64_t Dp, TileSizes sizes) {
    const int64_t ld = score_stride(sizes.keys), rows = sizes.rows + 1;
    ForwardScratch s{};
    s.q = arena.take<Word>(rows * Dp / kPair);
    s.scores = arena.take<Real>(rows * ld);
    s.p = kPair == 1 ? reinterpret_cast<Word*>(s.scores) : arena.take<Word>(rows * ld / kPair);
    s.out = arena.take<Real>(rows * Dp);
    s.max = arena.take<Real>(rows);
    s.sum = arena.take<Real>(rows);
    s.factor = arena.take<Real>(rows);
    s.sparse = arena.take<Real>(rows * ld);
    s.rules = arena.take<RowRule>(rows);
    return s;
  }
  static BackwardScratch backward_scratch(Arena& arena, TileSizes sizes) {
    const int64_t ld = score_stride(sizes.keys), rows = sizes.rows + 1;
    BackwardScratch s{};
    s.p = arena.take<Word>(rows * ld / kPair + ld);
    s.ds = arena.take<Word>(rows * ld / kPair + ld);
    s.ds_along = kPair == 1 ? s.ds : arena.take<Word>(rows * ld / kPair);
    s.sparse = arena.take<Real>(rows * ld);
    s.rules = arena.take<RowRule>(rows);
    return s;
  }
  static int64_t scratch(int64_t D, TileSizes sizes) {
    const int64_t Dp = round_up(D, kColumnAlign);
    Arena forward{nullptr}, backward{nullptr};
    forward_scratch(forward, Dp, sizes);
    backward_scratch(backward, sizes);
    const int64_t keys = kPanel * Dp * static_cast<int64_t>(sizeof(Word));
    return std::max({forward.next - static_cast<char*>(nullptr), backward.next - static_cast<char*>(nullptr),
                     static_cast<std::ptrdiff_t>(keys)});
  }

  // The stacked rows of a tile, the last one zero where their number is odd.
  static void pack_tile(const Problem& p, const Unit& unit, const View& view, const QueryTile& tile,
                        Word* to) {
    const int64_t Dp = p.padded_D(), W = Dp / kPair;
    for (int64_t i = 0; i < tile.length; ++i)
      for (int64_t h = 0; h < tile.heads; ++h, to += W)
        pack_row(element(view, unit.batch, tile.offset + i, tile.head + h), p.D, Dp, to);
    if (tile.rows() % 2) std::memset(static_cast<void*>(to), 0, static_cast<size_t>(W) * sizeof(Word));
  }

  // e^scores of one row and their sum; p is the row's place in words.
  template <bool kPlain>
  static void softmax_row(const RowRule& rule, Real exp_scale, int64_t n, Real* s, Word* p, Real& max,
                          Real& sum, Real& factor) {
    constexpr Real kNothing = -std::numeric_limits<Real>::infinity();
    // Plain scores are scaled only where their exponential is taken: the largest is the scale times the
    // largest.
    const Vec scale = V::set(exp_scale), zero = V::zero();
    Vec top0 = V::set(kNothing), top1 = top0;
    for (int64_t i = 0; i < n; i += 2 * kLanes) {
      Vec x0 = V::load(s + i), x1 = V::load(s + i + kLanes);
      if constexpr (!kPlain) {
        x0 = score<false>(x0, rule, scale, zero, i);
        x1 = score<false>(x1, rule, scale, zero, i + kLanes);
        V::store(s + i, x0);
        V::store(s + i + kLanes, x1);
      }
      top0 = V::max(top0, x0);
      top1 = V::max(top1, x1);
    }
    const Real before = max, top = V::max_of(V::max(top0, top1));
    max = std::max(before, kPlain ? top * exp_scale : top);
    const Real shift = max == kNothing ? Real(0) : max;
    factor = before == kNothing ? Real(0) : V::exp_one(before - shift);
    Vec sum0 = zero, sum1 = zero;
    const Vec low = V::set(shift), unit = kPlain ? scale : V::set(Real(1));
    for (int64_t i = 0; i < n; i += 2 * kLanes) {
      const Vec e0 = V::exp(V::mul_sub(V::load(s + i), unit, low)),
                e1 = V::exp(V::mul_sub(V::load(s + i + kLanes), unit, low));
      sum0 = V::add(sum0, e0);
      sum1 = V::add(sum1, e1);
      V::store_along(p + i / kPair, e0, e1);
    }
    sum = sum * factor + V::sum_of(V::add(sum0, sum1));
  }

  static void load_total(const Problem& p, const Unit& unit, const QueryTile& tile, const ForwardScratch& s) {
    const int64_t Dp = p.padded_D(), rows = tile.padded_rows();
    constexpr Real kNothing = -std::numeric_limits<Real>::infinity();
    std::memset(s.out, 0, static_cast<size_t>(rows * Dp) * sizeof(Real));
    for (int64_t r = 0; r < rows; ++r) {
      s.max[r] = kNothing;
      s.sum[r] = 0;
      if (!p.total_out || r >= tile.rows()) continue;
      const int64_t row = tile.offset + r / tile.heads, head = tile.head + r % tile.heads;
      const Real lse = static_cast<const Real*>(p.lse)[(unit.batch * p.q_heads + head) * p.q_size + row];
      if (lse == kNothing) continue;
      s.max[r] = lse * static_cast<Real>(V::kExpScale);
      s.sum[r] = 1;
      std::memcpy(
          s.out + r * Dp,
          static_cast<const Real*>(p.total_out) + ((unit.batch * p.q_size + row) * p.q_heads + head) * p.D,
          static_cast<size_t>(p.D) * sizeof(Real));
    }
  }

  static void store_total(const Problem& p, const Unit& unit, const QueryTile& tile,
                          const ForwardScratch& s) {
    const int64_t Dp = p.padded_D();
    for (int64_t r = 0; r < tile.rows(); ++r) {
      const int64_t row = tile.offset + r / tile.heads, head = tile.head + r % tile.heads;
      const Real inverse = s.sum[r] == 0 ? Real(0) : Real(1) / s.sum[r];
      static_cast<Real*>(p.lse)[(unit.batch * p.q_heads + head) * p.q_size + row] =
          s.sum[r] == 0 ? -std::numeric_limits<Real>::infinity()
                        : s.max[r] / static_cast<Real>(V::kExpScale) + std::log(s.sum[r]);
      const int64_t at = ((unit.batch * p.q_size + row) * p.q_heads + head) * p.D;
      const Real* from = s.out + r * Dp;
      if (p.total_out) {
        for (int64_t d = 0; d < p.D; ++d) static_cast<Real*>(p.total_out)[at + d] = from[d] * inverse;
      } else {
        for (int64_t d = 0; d < p.D; ++d)
          static_cast<T*>(p.new_out)[at + d] = static_cast<T>(from[d] * inverse);
      }
    }
  }

  static void forward(const Problem& p, const Unit& unit, const KeyLayout& keys, const QueryTile& tile,
                      const UnitMemory& memory, TileSizes sizes, void* scratch_memory) {
    const int64_t Dp = p.padded_D(), W = Dp / kPair, ld = score_stride(sizes.keys), rows = tile.padded_rows(),
                  depth = (p.D + kPair - 1) / kPair;
    const Real exp_scale = static_cast<Real>(p.scale * V::kExpScale);
    Arena arena{static_cast<char*>(scratch_memory)};
    const ForwardScratch s = forward_scratch(arena, Dp, sizes);
    pack_tile(p, unit, p.q, tile, s.q);
    load_total(p, unit, tile, s);
    std::vector<KeyRun> runs;
    for (int64_t b = tile.block_begin; b < tile.block_end; ++b) {
      const KeyBlock& block = keys.blocks[static_cast<size_t>(b)];
      const KeyPiece& piece = keys.pieces[static_cast<size_t>(block.piece)];
      key_runs(*p.pattern, tile, piece, block, runs);
      for (const KeyRun& run : runs) {
        const int64_t n = run.end - run.begin;
        for_each_panel(piece, run, [&](int64_t begin, int64_t columns, int64_t width) {
          multiply<V, false, Into::kSet>(
              rows, columns, s.q, W, static_cast<const Word*>(memory.k_panels) + (piece.packed + begin) * W,
              width, depth, s.scores + begin - run.begin, ld);
        });
        const bool plain = !make_rules(p, tile, piece, run, ld, s.sparse, s.rules);
        const auto softmax = plain ? softmax_row<true> : softmax_row<false>;
        for (int64_t r = 0; r < rows; ++r)
          softmax(s.rules[r], exp_scale, n, s.scores + r * ld, s.p + r * (ld / kPair), s.max[r], s.sum[r],
                  s.factor[r]);
        multiply<V, false, Into::kScaledAdd>(
            rows, Dp, s.p, ld / kPair,
            static_cast<const Word*>(memory.v_pairs) + (piece.packed + run.begin) * W, Dp, n / kPair, s.out,
            Dp, s.factor);
      }
    }
    store_total(p, unit, tile, s);
  }

  // f(first key of the piece, columns needed, keys a row of the panel) for the panels of a run.
  template <class F>
  static void for_each_panel(const KeyPiece& piece, const KeyRun& run, F f) {
    const int64_t filled = round_up(piece.length, kKeyAlign);
    for (int64_t begin = run.begin; begin < run.end; begin += kPanel)
      f(begin, std::min(kPanel, run.end - begin), std::min(kPanel, filled - begin));
  }

  // ---- backward

  static Real dot_values(const T* a, const T* b, int64_t n) {
    constexpr int64_t kLines = 16;
    Real part[kLines] = {};
    int64_t d = 0;
    for (; d + kLines <= n; d += kLines)
      for (int64_t j = 0; j < kLines; ++j)
        part[j] += static_cast<Real>(a[d + j]) * static_cast<Real>(b[d + j]);
    Real sum = 0;
    for (; d < n; ++d) sum += static_cast<Real>(a[d]) * static_cast<Real>(b[d]);
    for (const Real x : part) sum += x;
    return sum;
  }

  static void pack_queries(const Problem& p, const Unit& unit, const QueryTile& tile,
                           const UnitMemory& memory) {
    const int64_t Dp = p.padded_D(), W = Dp / kPair, rows = tile.padded_rows();
    const auto at = [&](void* base) { return static_cast<Word*>(base) + tile.packed * W; };
    pack_tile(p, unit, p.q, tile, at(memory.q_rows));
    pack_tile(p, unit, p.dout, tile, at(memory.dout_rows));
    if (kPair != 1) {
      V::interleave(at(memory.q_rows), rows, Dp, at(memory.q_pairs));
      V::interleave(at(memory.dout_rows), rows, Dp, at(memory.dout_pairs));
    }
    Real *lse = static_cast<Real*>(memory.lse) + tile.packed,
         *delta = static_cast<Real*>(memory.delta) + tile.packed;
    for (int64_t r = 0; r < rows; ++r) {
      lse[r] = delta[r] = 0;
      if (r >= tile.rows()) continue;
      const int64_t row = tile.offset + r / tile.heads, head = tile.head + r % tile.heads;
      const T *out = element(p.out, unit.batch, row, head), *dout = element(p.dout, unit.batch, row, head);
      delta[r] = dot_values(out, dout, p.D);
      const Real of_row = static_cast<const Real*>(p.lse)[(unit.batch * p.q_heads + head) * p.q_size + row];
      // A row that sees nothing: every exponential is 0.
      lse[r] = of_row == -std::numeric_limits<Real>::infinity() ? std::numeric_limits<Real>::infinity()
                                                                : of_row * static_cast<Real>(V::kExpScale);
    }
  }

  // P and dS of up to kRowsMax rows and one panel.
  template <bool kPlain>
  static void differentiate(Real exp_scale, const Real* s, const Real* dp, int64_t row, int64_t rows,
                            int64_t key, int64_t columns, const Real* lse, const Real* delta, int64_t ld,
                            const BackwardScratch& to) {
    const Vec scale = V::set(exp_scale);
    for (int64_t r = 0; r < rows; r += 2) {
      const int64_t at = row + r;
      const RowRule &rule0 = to.rules[at], &rule1 = to.rules[at + 1];
      const Vec lse0 = V::set(lse[at]), lse1 = V::set(lse[at + 1]), delta0 = V::set(delta[at]),
                delta1 = V::set(delta[at + 1]);
      const Real *s0 = s + r * kPanel, *s1 = s0 + kPanel, *dp0 = dp + r * kPanel, *dp1 = dp0 + kPanel;
      for (int64_t i = 0; i < columns; i += 2 * kLanes) {
        const int64_t j = i + kLanes;
        const Vec p00 = V::exp(score<kPlain>(V::load(s0 + i), rule0, scale, lse0, key + i)),
                  p01 = V::exp(score<kPlain>(V::load(s0 + j), rule0, scale, lse0, key + j)),
                  p10 = V::exp(score<kPlain>(V::load(s1 + i), rule1, scale, lse1, key + i)),
                  p11 = V::exp(score<kPlain>(V::load(s1 + j), rule1, scale, lse1, key + j));
        const Vec d00 = V::mul(p00, V::sub(V::load(dp0 + i), delta0)),
                  d01 = V::mul(p01, V::sub(V::load(dp0 + j), delta0)),
                  d10 = V::mul(p10, V::sub(V::load(dp1 + i), delta1)),
                  d11 = V::mul(p11, V::sub(V::load(dp1 + j), delta1));
        V::store_across(to.p + at / kPair * ld + key, ld, i, p00, p01, p10, p11);
        V::store_across(to.ds + at / kPair * ld + key, ld, i, d00, d01, d10, d11);
        if constexpr (kPair != 1) {
          V::store_along(to.ds_along + (at * ld + key + i) / kPair, d00, d01);
          V::store_along(to.ds_along + ((at + 1) * ld + key + i) / kPair, d10, d11);
        }
      }
    }
  }

  static void backward(const Problem& p, const KeyPiece& piece, const KeyBlock& block, const QueryTile& tile,
                       const UnitMemory& memory, TileSizes sizes, void* scratch_memory) {
    std::vector<KeyRun> runs;
    key_runs(*p.pattern, tile, piece, block, runs);
    if (runs.empty()) return;
    const int64_t Dp = p.padded_D(), W = Dp / kPair, ld = score_stride(sizes.keys), rows = tile.padded_rows(),
                  depth = (p.D + kPair - 1) / kPair;
    const Real exp_scale = static_cast<Real>(p.scale * V::kExpScale);
    Arena arena{static_cast<char*>(scratch_memory)};
    const BackwardScratch t = backward_scratch(arena, sizes);
    const auto words = [&](const void* base, int64_t row) {
      return static_cast<const Word*>(base) + row * W;
    };
    const auto reals = [&](void* base, int64_t row) { return static_cast<Real*>(base) + row * Dp; };
    const Word *q = words(memory.q_rows, tile.packed), *dout = words(memory.dout_rows, tile.packed);
    const Real *lse = static_cast<const Real*>(memory.lse) + tile.packed,
               *delta = static_cast<const Real*>(memory.delta) + tile.packed;
    for (const KeyRun& run : runs) {
      const bool plain = !make_rules(p, tile, piece, run, ld, t.sparse, t.rules);
      const auto differentiate_rows = plain ? differentiate<true> : differentiate<false>;
      for_each_panel(piece, run, [&](int64_t begin, int64_t columns, int64_t width) {
        alignas(64) Real s[kRowsMax * kPanel], dp[kRowsMax * kPanel];
        for (int64_t r = 0; r < rows; r += kRowsMax) {
          const int64_t n = std::min(kRowsMax, rows - r);
          multiply<V, false, Into::kSet>(n, columns, q + r * W, W,
                                         words(memory.k_panels, piece.packed + begin), width, depth, s,
                                         kPanel);
          multiply<V, false, Into::kSet>(n, columns, dout + r * W, W,
                                         words(memory.v_panels, piece.packed + begin), width, depth, dp,
                                         kPanel);
          differentiate_rows(exp_scale, s, dp, r, n, begin - run.begin, columns, lse, delta, ld, t);
        }
      });
      const int64_t keys = run.end - run.begin, packed = piece.packed + run.begin;
      multiply<V, true, Into::kAdd>(keys, Dp, t.p, ld, words(memory.dout_pairs, tile.packed), Dp,
                                    rows / kPair, reals(memory.dv, packed), Dp);
      multiply<V, true, Into::kAdd>(keys, Dp, t.ds, ld, words(memory.q_pairs, tile.packed), Dp, rows / kPair,
                                    reals(memory.dk, packed), Dp);
      multiply<V, false, Into::kAdd>(rows, Dp, t.ds_along, ld / kPair, words(memory.k_pairs, packed), Dp,
                                     keys / kPair, reals(memory.dq, tile.packed), Dp);
    }
  }

  static void write_row(const Real* from, Real scale, int64_t n, bool fresh, Real* to) {
    if (fresh) {
      for (int64_t d = 0; d < n; ++d) to[d] = from[d] * scale;
    } else {
      for (int64_t d = 0; d < n; ++d) to[d] += from[d] * scale;
    }
  }

  static void write_dq(const Problem& p, const Unit& unit, const QueryTile& tile, const UnitMemory& memory) {
    const int64_t Dp = p.padded_D();
    const Real scale = static_cast<Real>(p.scale);
    for (int64_t r = 0; r < tile.rows(); ++r) {
      const int64_t row = tile.offset + r / tile.heads, head = tile.head + r % tile.heads;
      const Real* from = static_cast<const Real*>(memory.dq) + (tile.packed + r) * Dp;
      Real* to = static_cast<Real*>(p.total_dq) + ((unit.batch * p.q_size + row) * p.q_heads + head) * p.D;
      write_row(from, scale, p.D, p.fresh, to);
    }
  }

  static void write_dkdv(const Problem& p, const Unit& unit, const KeyPiece& piece, const KeyBlock& block,
                         const UnitMemory& memory) {
    const int64_t Dp = p.padded_D();
    const Real scale = static_cast<Real>(p.scale);
    for (int64_t i = block.begin; i < block.begin + block.length; ++i) {
      const int64_t at = ((unit.batch * p.k_size + piece.offset + i) * p.kv_heads + unit.kv_head) * p.D;
      const Real *dk = static_cast<const Real*>(memory.dk) + (piece.packed + i) * Dp,
                 *dv = static_cast<const Real*>(memory.dv) + (piece.packed + i) * Dp;
      write_row(dk, scale, p.D, p.fresh, static_cast<Real*>(p.total_dk) + at);
      write_row(dv, Real(1), p.D, p.fresh, static_cast<Real*>(p.total_dv) + at);
    }
  }

  static const Kernels& table() {
    static constexpr Kernels kTable{static_cast<int64_t>(sizeof(Word)),
                                    static_cast<int64_t>(sizeof(Real)),
                                    kPair,
                                    V::forward_sizes,
                                    V::backward_sizes,
                                    scratch,
                                    pack_keys,
                                    forward,
                                    pack_queries,
                                    backward,
                                    write_dq,
                                    write_dkdv};
    return kTable;
  }
};
