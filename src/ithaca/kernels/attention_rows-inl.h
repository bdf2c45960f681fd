// What both directions of attention_kernel-inl.h share: packing, and what a row may see; included by it.

inline int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

// Keys a row of scores is apart: one line off a power of two, so that columns do not share cache sets.
inline int64_t score_stride(int64_t keys) {
  return keys + 16;
}

struct Arena {
  std::uintptr_t next;
  template <class X>
  X* take(int64_t n) {
    X* p = reinterpret_cast<X*>(next);
    next += static_cast<std::uintptr_t>(round_up(n * static_cast<int64_t>(sizeof(X)), 64));
    return p;
  }
};

template <class V, class T>
struct RowsKernel {
  using Real = typename V::Real;
  using Word = typename V::Word;
  using Vec = typename V::Vec;
  static constexpr int64_t kPair = V::kPair, kLanes = V::kLanes;

  static const T* element(const View& view, int64_t batch, int64_t row, int64_t head) {
    return static_cast<const T*>(view.data) + batch * view.batch + row * view.row + head * view.head;
  }

  // ---- packing

  // Rows of other heads lie between: no prefetcher of the machine's own sees the next ones in time.
  static constexpr int64_t kAhead = 8;
  static void prefetch(const T* row, int64_t D) {
    const char* p = reinterpret_cast<const char*>(row);
    for (int64_t i = 0; i < D * static_cast<int64_t>(sizeof(T)); i += 64) __builtin_prefetch(p + i);
  }

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
        const auto row = [&](int64_t i) {
          return element(of_v ? p.v : p.k, unit.batch, piece.offset + begin + i, unit.kv_head);
        };
        for (int64_t i = 0; i < n; ++i) {
          prefetch(row(std::min(i + kAhead, n - 1)), p.D);
          pack_row(row(i), p.D, Dp, rows + i * W);
        }
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

  // The stacked rows of a tile, the last one zero where their number is odd.
  static void pack_tile(const Problem& p, const Unit& unit, const View& view, const QueryTile& tile,
                        Word* to) {
    const int64_t Dp = p.padded_D(), W = Dp / kPair;
    const auto row = [&](int64_t i, int64_t h) {
      return element(view, unit.batch, tile.offset + std::min(i, tile.length - 1), tile.head + h);
    };
    for (int64_t i = 0; i < tile.length; ++i)
      for (int64_t h = 0; h < tile.heads; ++h, to += W) {
        prefetch(row(i + kAhead, h), p.D);
        pack_row(row(i, h), p.D, Dp, to);
      }
    if (tile.rows() % 2) std::memset(static_cast<void*>(to), 0, static_cast<size_t>(W) * sizeof(Word));
  }

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

  // ---- walking

  // f(row of the tile, its index in [B, H, S], its first value's index in [B, S, H, D]).
  template <class F>
  static void for_each_row(const Problem& p, const Unit& unit, const QueryTile& tile, F f) {
    int64_t r = 0;
    for (int64_t i = tile.offset; i < tile.offset + tile.length; ++i)
      for (int64_t h = tile.head; h < tile.head + tile.heads; ++h, ++r)
        f(r, (unit.batch * p.q_heads + h) * p.q_size + i,
          ((unit.batch * p.q_size + i) * p.q_heads + h) * p.D);
  }

  // f(first key of the piece, columns needed, keys a row of the panel) for the panels of a run.
  template <class F>
  static void for_each_panel(const KeyPiece& piece, const KeyRun& run, F f) {
    const int64_t filled = round_up(piece.length, kKeyAlign);
    for (int64_t begin = run.begin; begin < run.end; begin += kPanel)
      f(begin, std::min(kPanel, run.end - begin), std::min(kPanel, filled - begin));
  }

  static void write_row(const Real* from, Real scale, int64_t n, bool fresh, Real* to) {
    if (fresh) {
      for (int64_t d = 0; d < n; ++d) to[d] = from[d] * scale;
    } else {
      for (int64_t d = 0; d < n; ++d) to[d] += from[d] * scale;
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
    if (pattern.window > 0) {
      first = std::clamp<int64_t>(at - pattern.window + 1, 0, last);
      if (!pattern.causal) last = std::min(last, at + pattern.window);
    }
    if (pattern.causal) last = std::min(last, at + 1);
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
    // The key of the query's own position, in keys of the run, as a sum of two: both are exact up to 2^36 keys, and so
    // the distance of a key is rounded once.
    Real slope = 0, at_high = 0, at_low = 0;

    void set_at(int64_t at) {
      constexpr int64_t kLow = 4096;
      const int64_t low = ((at % kLow) + kLow) % kLow;
      at_low = static_cast<Real>(low);
      at_high = static_cast<Real>(at - low);
    }
  };
  // Scaled scores of keys [n, n + kLanes) from their products; a forbidden one is -infinity.
  static Vec score(Vec s, const RowRule& rule, Vec scale, int64_t n) {
    Vec x = V::mul(s, scale);
    const Vec key = V::add(V::iota(), V::set(static_cast<Real>(n)));
    if (rule.alibi) {
      const Vec distance = V::abs(V::sub(V::sub(key, V::set(rule.at_low)), V::set(rule.at_high)));
      x = V::sub(x, V::mul(distance, V::set(rule.slope)));
    }
    if (rule.masked) {
      x = V::keep_between(x, key, V::set(rule.seen.begin), V::set(rule.seen.end));
      if (rule.sparse) x = V::keep_where(x, V::load(rule.sparse + n));
    }
    return x;
  }

  // ---- exponentials

  // From here on a score's last bit is worth 1e-5 and more of its exponential, and one less a rounded sum may be far
  // above 0: scores this large are scaled and shifted in steps that are exact where it matters, two operations more.
  static constexpr Real kLarge = 128;
  static bool is_large(Real shift) { return std::abs(shift) > kLarge; }

  // e^(score - shift). `kScaled`: values are scores; else they are products, still to be scaled.
  struct Exponent {
    Vec scale, shift;  // natural
    Vec unit, low;     // the same times V::kExpScale, the unit for values as they are
  };
  template <bool kScaled>
  static Exponent exponent(Real scale, Real shift) {
    const Real to_exp = static_cast<Real>(V::kExpScale);
    return {V::set(scale), V::set(shift), V::set(kScaled ? to_exp : scale * to_exp), V::set(shift * to_exp)};
  }
  template <bool kScaled, bool kIsLarge>
  static Vec exponential(Vec value, const Exponent& e) {
    if constexpr (!kIsLarge) {
      return V::exp(V::mul_sub(value, e.unit, e.low));
    } else {
      // Not fused: the largest score less itself is 0.
      const Vec x = V::sub(kScaled ? value : V::mul(value, e.scale), e.shift);
      return V::exp(V::kExpScale == 1 ? x : V::mul(x, V::set(static_cast<Real>(V::kExpScale))));
    }
  }

  // The rules of a tile's rows for one run, and the keys that every row sees as they are.
  static Interval make_rules(const Problem& p, const QueryTile& tile, const KeyPiece& piece,
                             const KeyRun& run, int64_t ld, Real* sparse, RowRule* rules) {
    // A negative scale would turn the largest plain score into the smallest.
    const bool plain = !p.slopes && !p.pattern->sparse.enabled() && p.scale > 0;
    Interval common{
        0, static_cast<Real>(plain || (run.whole && !p.slopes && p.scale > 0) ? run.end - run.begin : 0)};
    if (run.whole && common.end > 0) return common;
    RowRule rule;
    for (int64_t i = 0; i < tile.length; ++i) {
      const int64_t position = tile.start + i;
      rule.masked = !run.whole;
      if (rule.masked) {
        rule.seen = interval(*p.pattern, position, piece, run);
        common = {std::max(common.begin, rule.seen.begin), std::min(common.end, rule.seen.end)};
      }
      if (rule.masked && p.pattern->sparse.enabled()) {
        sparse_row(p.pattern->sparse, position, piece, run, sparse + i * ld);
        rule.sparse = sparse + i * ld;
      }
      rule.alibi = p.slopes != nullptr;
      rule.set_at(position - piece.start - run.begin);
      for (int64_t h = 0; h < tile.heads; ++h) {
        if (p.slopes) rule.slope = static_cast<Real>(p.slopes[tile.head + h]);
        *rules++ = rule;
      }
    }
    *rules = rule;  // of the row that fills up
    return common;
  }
};
