// The kernel of attention_cpu.h over a vector policy V, included once an instruction set into a namespace of
// its own (no include guard). V has: Real, Word, Value, kPair, kLanes, kNV (vectors a row of the register
// tile), Vec, WordVec and the operations used here. kExpScale: V::exp(x) is e^(x / kExpScale).

using std::int64_t;

#include "ithaca/kernels/attention_gemm-inl.h"
#include "ithaca/kernels/attention_rows-inl.h"

template <class V, class T>
struct Kernel : RowsKernel<V, T> {
  using Base = RowsKernel<V, T>;
  using Base::dot_values;
  using Base::element;
  using Base::for_each_panel;
  using Base::for_each_row;
  using Base::kAhead;
  using Base::kLanes;
  using Base::kPair;
  using Base::make_rules;
  using Base::pack_tile;
  using Base::prefetch;
  using Base::write_row;
  using typename Base::Interval;
  using typename Base::Real;
  using typename Base::RowRule;
  using typename Base::Vec;
  using typename Base::Word;
  static constexpr Real kNothing = -std::numeric_limits<Real>::infinity();  // the score of what is not seen

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
    Arena forward{0}, backward{0};
    forward_scratch(forward, Dp, sizes);
    backward_scratch(backward, sizes);
    const int64_t keys = kPanel * Dp * static_cast<int64_t>(sizeof(Word));
    return std::max({static_cast<int64_t>(forward.next), static_cast<int64_t>(backward.next), keys});
  }

  // Scores outside [seen.begin, seen.end) become -infinity.
  static void mask_row(Interval seen, int64_t n, Real* s) {
    const auto mask = [&](int64_t i) {
      const Vec key = V::add(V::iota(), V::set(static_cast<Real>(i)));
      V::store(s + i, V::keep_between(V::load(s + i), key, V::set(seen.begin), V::set(seen.end)));
    };
    const auto begin = static_cast<int64_t>(seen.begin),
               end = static_cast<int64_t>(seen.end) / kLanes * kLanes;
    for (int64_t i = 0; i < begin; i += kLanes) mask(i);
    for (int64_t i = std::max(end, round_up(begin, kLanes)); i < n; i += kLanes) mask(i);
  }

  // The second half of softmax_row: exponentials of `n` values less `shift` go to p; their sum.
  template <bool kPlain, bool kIsLarge>
  static Real exponentials(Real scale, Real shift, int64_t n, const Real* s, Word* p) {
    const auto e = Base::template exponent<!kPlain>(scale, shift);
    Vec sum0 = V::zero(), sum1 = sum0;
    for (int64_t i = 0; i < n; i += 2 * kLanes) {
      const Vec e0 = Base::template exponential<!kPlain, kIsLarge>(V::load(s + i), e),
                e1 = Base::template exponential<!kPlain, kIsLarge>(V::load(s + i + kLanes), e);
      sum0 = V::add(sum0, e0);
      sum1 = V::add(sum1, e1);
      V::store_along(p + i / kPair, e0, e1);
    }
    return V::sum_of(V::add(sum0, sum1));
  }

  // e^scores of one row and their sum; p is the row's place in words.
  template <bool kPlain>
  static void softmax_row(const RowRule& rule, Real scale, int64_t n, Real* s, Word* p, Real& max, Real& sum,
                          Real& factor) {
    // Plain scores are scaled only where their exponential is taken: the largest is the scale times the
    // largest.
    const Vec by = V::set(scale);
    Vec top0 = V::set(kNothing), top1 = top0;
    for (int64_t i = 0; i < n; i += 2 * kLanes) {
      Vec x0 = V::load(s + i), x1 = V::load(s + i + kLanes);
      if constexpr (!kPlain) {
        x0 = Base::score(x0, rule, by, i);
        x1 = Base::score(x1, rule, by, i + kLanes);
        V::store(s + i, x0);
        V::store(s + i + kLanes, x1);
      }
      top0 = V::max(top0, x0);
      top1 = V::max(top1, x1);
    }
    const Real before = max, top = V::max_of(V::max(top0, top1));
    max = std::max(before, kPlain ? top * scale : top);
    const Real shift = max == kNothing ? Real(0) : max;
    factor = before == kNothing ? Real(0) : V::exp_one((before - shift) * static_cast<Real>(V::kExpScale));
    sum = sum * factor + (Base::is_large(shift) ? exponentials<kPlain, true>(scale, shift, n, s, p)
                                                : exponentials<kPlain, false>(scale, shift, n, s, p));
  }

  static void load_total(const Problem& p, const Unit& unit, const QueryTile& tile, const ForwardScratch& s) {
    const int64_t Dp = p.padded_D(), rows = tile.padded_rows();
    std::memset(s.out, 0, static_cast<size_t>(rows * Dp) * sizeof(Real));
    std::fill(s.max, s.max + rows, kNothing);
    std::fill(s.sum, s.sum + rows, Real(0));
    if (!p.total_out) return;
    for_each_row(p, unit, tile, [&](int64_t r, int64_t at, int64_t first) {
      const Real lse = static_cast<const Real*>(p.lse)[at];
      if (lse == kNothing) return;
      s.max[r] = lse;
      s.sum[r] = 1;
      write_row(static_cast<const Real*>(p.total_out) + first, Real(1), p.D, /*fresh=*/true, s.out + r * Dp);
    });
  }

  // A score that overflowed makes the sum a NaN; its logarithm is known all the same.
  static Real lse_of(Real max, Real sum) {
    return sum == 0 ? kNothing : max == -kNothing ? max : max + std::log(sum);
  }

  static void store_total(const Problem& p, const Unit& unit, const QueryTile& tile,
                          const ForwardScratch& s) {
    const int64_t Dp = p.padded_D();
    for_each_row(p, unit, tile, [&](int64_t r, int64_t at, int64_t first) {
      const Real inverse = s.sum[r] == 0 ? Real(0) : Real(1) / s.sum[r];
      static_cast<Real*>(p.lse)[at] = lse_of(s.max[r], s.sum[r]);
      const Real* from = s.out + r * Dp;
      if (p.total_out) {
        write_row(from, inverse, p.D, /*fresh=*/true, static_cast<Real*>(p.total_out) + first);
      } else {
        V::store_values(from, inverse, p.D, static_cast<T*>(p.new_out) + first);
      }
    });
  }

  static void forward(const Problem& p, const Unit& unit, const KeyLayout& keys, const QueryTile& tile,
                      const UnitMemory& memory, TileSizes sizes, void* scratch_memory) {
    const int64_t Dp = p.padded_D(), W = Dp / kPair, ld = score_stride(sizes.keys), rows = tile.padded_rows(),
                  depth = (p.D + kPair - 1) / kPair;
    const Real scale = static_cast<Real>(p.scale);
    Arena arena{reinterpret_cast<std::uintptr_t>(scratch_memory)};
    const ForwardScratch s = forward_scratch(arena, Dp, sizes);
    pack_tile(p, unit, p.q, tile, s.q);
    load_total(p, unit, tile, s);
    std::vector<KeyRun> runs;
    bool met = false;
    for (const KeyBlock& block : keys.blocks) {
      const KeyPiece& piece = keys.pieces[static_cast<size_t>(block.piece)];
      key_runs(*p.pattern, tile, piece, block, runs);
      met = met || !runs.empty();
      for (const KeyRun& run : runs) {
        const int64_t n = run.end - run.begin;
        for_each_panel(piece, run, [&](int64_t begin, int64_t columns, int64_t width) {
          multiply<V, false, Into::kSet>(
              rows, columns, s.q, W, static_cast<const Word*>(memory.k_panels) + (piece.packed + begin) * W,
              width, depth, s.scores + begin - run.begin, ld);
        });
        const Interval plain = make_rules(p, tile, piece, run, ld, s.sparse, s.rules);
        const bool masked = plain.begin > 0 || plain.end < static_cast<Real>(n),
                   only_masked = !p.slopes && !p.pattern->sparse.enabled() && p.scale > 0;
        const auto softmax = masked && !only_masked ? softmax_row<false> : softmax_row<true>;
        for (int64_t r = 0; r < rows; ++r) {
          if (masked && only_masked) mask_row(s.rules[r].seen, n, s.scores + r * ld);
          softmax(s.rules[r], scale, n, s.scores + r * ld, s.p + r * (ld / kPair), s.max[r], s.sum[r],
                  s.factor[r]);
        }
        multiply<V, false, Into::kScaledAdd>(
            rows, Dp, s.p, ld / kPair,
            static_cast<const Word*>(memory.v_pairs) + (piece.packed + run.begin) * W, Dp, n / kPair, s.out,
            Dp, s.factor);
      }
    }
    // A running total that met nothing keeps its bits.
    if (met || !p.total_out) store_total(p, unit, tile, s);
  }

  // ---- backward

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
    lse[rows - 1] = delta[rows - 1] = 0;  // of the row that fills up
    int64_t r = 0;
    for (int64_t i = 0; i < tile.length; ++i)
      for (int64_t h = tile.head; h < tile.head + tile.heads; ++h, ++r) {
        const auto row = [&](const View& view, int64_t ahead) {
          return element(view, unit.batch, tile.offset + std::min(i + ahead, tile.length - 1), h);
        };
        prefetch(row(p.out, kAhead), p.D);
        delta[r] = dot_values(row(p.out, 0), row(p.dout, 0), p.D);
        const Real of_row =
            static_cast<const Real*>(p.lse)[(unit.batch * p.q_heads + h) * p.q_size + tile.offset + i];
        // A row that sees nothing: every exponential is 0.
        lse[r] = of_row == kNothing ? -kNothing : of_row;
      }
  }

  template <bool kPlain, bool kIsLarge>
  static Vec probability(const Real* s, const RowRule& rule, Vec scale, const typename Base::Exponent& lse,
                         int64_t key) {
    Vec x = V::load(s);
    if constexpr (!kPlain) x = Base::score(x, rule, scale, key);
    return Base::template exponential<!kPlain, kIsLarge>(x, lse);
  }

  // P and dS of up to kRowsMax rows and one panel.
  template <bool kPlain, bool kIsLarge>
  static void differentiate(Real scale, const Real* s, const Real* dp, int64_t row, int64_t rows, int64_t key,
                            int64_t columns, const Real* lse, const Real* delta, int64_t ld,
                            const BackwardScratch& to) {
    const Vec by = V::set(scale);
    for (int64_t r = 0; r < rows; r += 2) {
      const int64_t at = row + r;
      const RowRule &rule0 = to.rules[at], &rule1 = to.rules[at + 1];
      const auto lse0 = Base::template exponent<!kPlain>(scale, lse[at]),
                 lse1 = Base::template exponent<!kPlain>(scale, lse[at + 1]);
      const Vec delta0 = V::set(delta[at]), delta1 = V::set(delta[at + 1]);
      const Real *s0 = s + r * kPanel, *s1 = s0 + kPanel, *dp0 = dp + r * kPanel, *dp1 = dp0 + kPanel;
      for (int64_t i = 0; i < columns; i += 2 * kLanes) {
        const int64_t j = i + kLanes;
        const Vec p00 = probability<kPlain, kIsLarge>(s0 + i, rule0, by, lse0, key + i),
                  p01 = probability<kPlain, kIsLarge>(s0 + j, rule0, by, lse0, key + j),
                  p10 = probability<kPlain, kIsLarge>(s1 + i, rule1, by, lse1, key + i),
                  p11 = probability<kPlain, kIsLarge>(s1 + j, rule1, by, lse1, key + j);
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
  static auto differentiation(bool plain, bool large) {
    return plain ? (large ? differentiate<true, true> : differentiate<true, false>)
                 : (large ? differentiate<false, true> : differentiate<false, false>);
  }

  static void backward(const Problem& p, const KeyPiece& piece, const KeyBlock& block, const QueryTile& tile,
                       const UnitMemory& memory, TileSizes sizes, void* scratch_memory) {
    std::vector<KeyRun> runs;
    key_runs(*p.pattern, tile, piece, block, runs);
    if (runs.empty()) return;
    const int64_t Dp = p.padded_D(), W = Dp / kPair, ld = score_stride(sizes.keys), rows = tile.padded_rows(),
                  depth = (p.D + kPair - 1) / kPair;
    const Real scale = static_cast<Real>(p.scale);
    Arena arena{reinterpret_cast<std::uintptr_t>(scratch_memory)};
    const BackwardScratch t = backward_scratch(arena, sizes);
    const auto words = [&](const void* base, int64_t row) {
      return static_cast<const Word*>(base) + row * W;
    };
    const auto reals = [&](void* base, int64_t row) { return static_cast<Real*>(base) + row * Dp; };
    const Word *q = words(memory.q_rows, tile.packed), *dout = words(memory.dout_rows, tile.packed);
    const Real *lse = static_cast<const Real*>(memory.lse) + tile.packed,
               *delta = static_cast<const Real*>(memory.delta) + tile.packed;
    // The lse of a row that sees nothing is infinite and stays so either way.
    const bool large =
        std::any_of(lse, lse + rows, [](Real x) { return Base::is_large(x) && x != -kNothing; });
    for (const KeyRun& run : runs) {
      const Interval plain = make_rules(p, tile, piece, run, ld, t.sparse, t.rules);
      for_each_panel(piece, run, [&](int64_t begin, int64_t columns, int64_t width) {
        const auto first = static_cast<Real>(begin - run.begin), last = first + static_cast<Real>(columns);
        const auto differentiate_rows = differentiation(first >= plain.begin && last <= plain.end, large);
        alignas(64) Real s[kRowsMax * kPanel], dp[kRowsMax * kPanel];
        for (int64_t r = 0; r < rows; r += kRowsMax) {
          const int64_t n = std::min(kRowsMax, rows - r);
          multiply<V, false, Into::kSet>(n, columns, q + r * W, W,
                                         words(memory.k_panels, piece.packed + begin), width, depth, s,
                                         kPanel);
          multiply<V, false, Into::kSet>(n, columns, dout + r * W, W,
                                         words(memory.v_panels, piece.packed + begin), width, depth, dp,
                                         kPanel);
          differentiate_rows(scale, s, dp, r, n, begin - run.begin, columns, lse, delta, ld, t);
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

  static void write_dq(const Problem& p, const Unit& unit, const QueryTile& tile, const UnitMemory& memory) {
    const int64_t Dp = p.padded_D();
    const Real scale = static_cast<Real>(p.scale);
    for_each_row(p, unit, tile, [&](int64_t r, int64_t, int64_t first) {
      write_row(static_cast<const Real*>(memory.dq) + (tile.packed + r) * Dp, scale, p.D, p.fresh,
                static_cast<Real*>(p.total_dq) + first);
    });
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
                                    Base::pack_keys,
                                    forward,
                                    pack_queries,
                                    backward,
                                    write_dq,
                                    write_dkdv};
    return kTable;
  }
};
