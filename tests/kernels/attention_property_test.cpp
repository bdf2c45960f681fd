// ithaca's kernel against the naive twin in float64 over random shapes and patterns.
// Shape letters: B batch, S rows, H query heads, K kv heads, D head size.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>

#include "ithaca/base/cpu.h"
#include "ithaca/base/error.h"
#include "ithaca/kernels/attention_block.h"
#include "ithaca/kernels/attention_ithaca.h"
#include "tests/kernels/support.h"

namespace ithaca {
namespace {

constexpr AttentionBackend kNaive = AttentionBackend::kNaive, kIthaca = AttentionBackend::kIthaca;

struct Case {
  int64_t batch = 1, D = 16;
  Rows q_rows, k_rows;
  HeadRange heads;
  AttentionPattern pattern;
};

struct Results {
  at::Tensor out, lse, dq, dk, dv;
};
std::vector<std::pair<const char*, at::Tensor Results::*>> fields() {
  return {{"out", &Results::out},
          {"lse", &Results::lse},
          {"dq", &Results::dq},
          {"dk", &Results::dk},
          {"dv", &Results::dv}};
}

int64_t size_of(const Rows& rows) {
  int64_t n = 0;
  for (const RowRun& run : rows) n += run.length;
  return n;
}

struct Inputs {
  at::Tensor q, k, v, dout;

  Inputs to(at::ScalarType type) const { return {q.to(type), k.to(type), v.to(type), dout.to(type)}; }
  Inputs clone() const { return {q.clone(), k.clone(), v.clone(), dout.clone()}; }
  std::vector<at::Tensor> all() const { return {q, k, v, dout}; }
};
Inputs inputs_of(const Case& c, uint64_t seed) {
  const int64_t sq = size_of(c.q_rows), sk = size_of(c.k_rows);
  const at::Generator generator = at::detail::createCPUGenerator(seed);
  const auto normal = [&](int64_t rows, int64_t heads) {
    return at::randn({c.batch, rows, heads, c.D}, generator, at::kDouble);
  };
  // Where a row sees one key, dP - delta cancels and leaves float32's rounding of dP, whatever its size.
  return {normal(sq, c.heads.q_count), normal(sk, c.heads.kv_count), normal(sk, c.heads.kv_count),
          0.5 * normal(sq, c.heads.q_count)};
}

Results run(const Case& c, const Inputs& in, AttentionBackend backend) {
  const AttentionOutput f =
      attention_block(in.q, in.k, in.v, c.q_rows, c.k_rows, c.heads, c.pattern, backend);
  const AttentionGrads g = attention_block_backward(in.dout, in.q, in.k, in.v, f.out, f.lse, c.q_rows,
                                                    c.k_rows, c.heads, c.pattern, backend);
  return {f.out, f.lse, g.dq, g.dk, g.dv};
}

// The same, the runs of keys one call each, in the given order.
Results run_by_blocks(const Case& c, const Inputs& in, const std::vector<size_t>& order,
                      AttentionBackend backend) {
  const auto acc = in.q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  AttentionOutput total{
      at::zeros(in.q.sizes(), acc),
      at::full({c.batch, c.heads.q_count, in.q.size(1)}, -std::numeric_limits<double>::infinity(), acc)};
  std::vector<int64_t> offsets{0};
  for (const RowRun& rows : c.k_rows) offsets.push_back(offsets.back() + rows.length);
  const auto part = [&](const at::Tensor& t, size_t i) {
    return t.narrow(1, offsets[i], c.k_rows[i].length);
  };
  for (const size_t i : order)
    attention_block_add(total, in.q, part(in.k, i), part(in.v, i), c.q_rows, {c.k_rows[i]}, c.heads,
                        c.pattern, backend);
  const at::Tensor out = total.out.to(in.q.scalar_type());
  AttentionGrads grads{at::zeros(in.q.sizes(), acc), {}, {}};
  std::vector<at::Tensor> dk(c.k_rows.size()), dv(c.k_rows.size());
  for (const size_t i : order) {
    grads.dk = at::zeros(part(in.k, i).sizes(), acc);
    grads.dv = at::zeros(part(in.k, i).sizes(), acc);
    attention_block_backward_add(grads, in.dout, in.q, part(in.k, i), part(in.v, i), out, total.lse, c.q_rows,
                                 {c.k_rows[i]}, c.heads, c.pattern, backend);
    dk[i] = grads.dk;
    dv[i] = grads.dv;
  }
  return {out, total.lse, grads.dq, at::cat(dk, 1), at::cat(dv, 1)};
}

class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  bool one_in(int64_t n) { return between(1, n) == 1; }
  template <class X>
  X pick(std::initializer_list<X> of) {
    return of.begin()[between(0, static_cast<int64_t>(of.size()) - 1)];
  }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

// Some of the positions below S, in runs that lie in any order.
Rows random_rows(Dice& dice, int64_t S) {
  if (dice.one_in(3)) return {{0, S}};
  Rows rows;
  for (int64_t i = 0; i < S;) {
    const int64_t n = std::min(S - i, dice.between(0, std::max<int64_t>(1, S / 2)));
    if (!dice.one_in(5)) rows.push_back({i, n});
    i += std::max<int64_t>(1, n);
  }
  std::shuffle(rows.begin(), rows.end(), dice.engine());
  return rows;
}

HeadRange random_heads(Dice& dice) {
  struct Pair {
    int64_t h, k;
  };
  const Pair p = dice.pick<Pair>(
      {{1, 1}, {4, 4}, {8, 2}, {9, 3}, {7, 1}, {5, 5}, {28, 4}, {40, 8}, {5, 2}, {7, 3}, {3, 1}});
  if (p.h <= 9 && dice.one_in(2)) return HeadRange::all(p.h, p.k);
  HeadRange r{.q_total = p.h, .kv_total = p.k};
  r.q_begin = dice.between(0, p.h - 1);
  r.q_count = std::min(p.h - r.q_begin, dice.between(1, 10));
  r.kv_begin = r.q_begin * p.k / p.h;
  r.kv_count = (r.q_begin + r.q_count - 1) * p.k / p.h - r.kv_begin + 1;
  if (dice.one_in(5) && r.kv_begin + r.kv_count < p.k) ++r.kv_count;  // one that nobody uses
  return r;
}

AttentionPattern random_pattern(Dice& dice, int64_t S, int64_t batch, const HeadRange& heads) {
  AttentionPattern p;
  p.causal = !dice.one_in(3);
  if (dice.one_in(6)) p.scale = 0.37;
  if (dice.one_in(2))
    for (int64_t b = 0; b < batch; ++b) {
      std::vector<int64_t> bounds{0};
      while (bounds.back() < S && !dice.one_in(8))
        bounds.push_back(std::min(S, bounds.back() + dice.pick<int64_t>({0, 1, 2, 7, 31, 32, 33, 65, S})));
      p.documents.push_back(bounds);
    }
  if (dice.one_in(4)) p.window = dice.pick<int64_t>({1, 2, 9, 33, 64, 100});
  if (dice.one_in(4)) p.alibi_slopes = alibi_slopes(heads.q_total);
  if (dice.one_in(4)) {
    p.sparse.block = dice.pick<int64_t>({1, 3, 8, 16, 32, 64});
    if (dice.one_in(2)) {
      p.sparse.num_local_blocks = dice.between(1, 4);
      p.sparse.num_global_blocks = dice.between(0, p.sparse.num_local_blocks);
    } else {
      p.sparse.mask_blocks =
          dice.between(1, std::max<int64_t>(1, std::min<int64_t>(40, S / p.sparse.block + 1)));
      for (int64_t i = 0; i < p.sparse.mask_blocks * p.sparse.mask_blocks; ++i)
        p.sparse.mask.push_back(static_cast<uint8_t>(dice.between(0, 1)));
    }
  }
  return p;
}

Case random_case(Dice& dice) {
  Case c;
  const int64_t S = dice.one_in(12) ? dice.between(100, 330) : dice.between(1, 70);
  c.D = S > 100 ? dice.pick<int64_t>({16, 40, 64})
                : dice.pick<int64_t>({1, 7, 16, 20, 32, 40, 64, 72, 80, 96, 100, 128, 160, 200, 256});
  c.batch = S > 100 ? 1 : dice.between(1, 3);
  c.heads = random_heads(dice);
  c.pattern = random_pattern(dice, S, c.batch, c.heads);
  c.q_rows = random_rows(dice, S);
  c.k_rows = dice.one_in(2) ? c.q_rows : random_rows(dice, S);
  return c;
}

std::string describe(const Case& c) {
  return str("B ", c.batch, " Sq ", size_of(c.q_rows), " Sk ", size_of(c.k_rows), " D ", c.D, " heads ",
             c.heads.q_begin, " + ", c.heads.q_count, " of ", c.heads.q_total, " / ", c.heads.kv_total,
             " causal ", c.pattern.causal, " documents ", c.pattern.documents.size(), " window ",
             c.pattern.window, " alibi ", c.pattern.alibi_slopes.size(), " sparse ", c.pattern.sparse.block);
}

// Squared errors and squared values of one kind of result, over all cases.
struct Squares {
  double error = 0, ideal = 0, value = 0;
};
double squares(const at::Tensor& t) {
  const at::Tensor wide = t.to(at::kDouble);
  return at::where(wide.isfinite(), wide.square(), 0.0).sum().item<double>();
}

// Of the largest deviation; the short types are measured against their own rounding besides.
double tolerance_of(at::ScalarType type) {
  return type == at::kDouble ? 1e-12 : type == at::kFloat ? 1e-5 : 3e-2;
}

TEST(AttentionProperty, RandomShapesEqualTheNaiveTwin) {
  constexpr int kCases = 2200;
  std::map<std::string, Squares> of_bf16, of_half;
  int compared = 0;
  for (int i = 0; i < kCases; ++i) {
    Dice dice(static_cast<uint64_t>(i));
    const Case c = random_case(dice);
    SCOPED_TRACE(str("case ", i, ": ", describe(c)));
    const Inputs exact = inputs_of(c, 10 * static_cast<uint64_t>(i));
    const at::ScalarType type = dice.pick({at::kDouble, at::kDouble, at::kFloat, at::kBFloat16, at::kHalf});
    const Inputs rounded = exact.to(type);
    std::vector<size_t> order(c.k_rows.size());
    for (size_t k = 0; k < order.size(); ++k) order[k] = k;
    std::shuffle(order.begin(), order.end(), dice.engine());
    const Results got = !order.empty() && dice.one_in(3) ? run_by_blocks(c, rounded, order, kIthaca)
                                                         : run(c, rounded, kIthaca);
    const Results want = run(c, rounded.to(at::kDouble), kNaive);
    ++compared;
    const bool full = type == at::kDouble || type == at::kFloat;
    for (const auto& [name, field] : fields()) {
      ASSERT_EQ((got.*field).sizes(), (want.*field).sizes()) << name;
      ASSERT_LE(test::distance(got.*field, want.*field), tolerance_of(type)) << name;
    }
    if (full) continue;
    const Results truth = run(c, exact, kNaive);
    auto& sums = type == at::kHalf ? of_half : of_bf16;
    for (const auto& [name, field] : fields()) {
      Squares& s = sums[name];
      s.error += squares((got.*field).to(at::kDouble) - truth.*field);
      s.ideal += squares((want.*field).to(type).to(at::kDouble) - truth.*field);
      s.value += squares(truth.*field);
    }
  }
  EXPECT_EQ(compared, kCases);
  for (const auto& [type, sums] : {std::pair{"bf16", of_bf16}, {"fp16", of_half}}) {
    ASSERT_EQ(sums.size(), 5U);
    for (const auto& [name, s] : sums) {
      EXPECT_GT(s.value, 0);
      EXPECT_LE(std::sqrt(s.error), 1.5 * std::sqrt(s.ideal)) << type << " " << name;
      RecordProperty(std::string(type) + "_" + name, std::to_string(std::sqrt(s.error / s.ideal)));
    }
  }
}

std::vector<AttentionPattern> mixed_patterns() {
  std::vector<AttentionPattern> patterns(5);
  patterns[1].window = 100;
  patterns[2].alibi_slopes = alibi_slopes(9);
  patterns[3].sparse = {.block = 16, .num_local_blocks = 4, .num_global_blocks = 1};
  patterns[4] = {.causal = false, .window = 150, .alibi_slopes = alibi_slopes(9)};
  return patterns;
}

// What one document holds, NaN included, reaches no bit of another.
TEST(AttentionProperty, NothingLeaksBetweenDocuments) {
  const Rows rows{{0, 600}};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf})
    for (const AttentionPattern& pattern : mixed_patterns()) {
      Case c{1, 40, rows, rows, {0, 5, 9, 0, 2, 3}, pattern};
      c.pattern.documents = {{0, 37, 290, 291, 520}};
      const Inputs clean = inputs_of(c, 1).to(type);
      const Results want = run(c, clean, kIthaca);
      for (const double poison : {nan, 3.0}) {
        const Inputs dirty = clean.clone();
        for (const at::Tensor& t : dirty.all()) {
          t.narrow(1, 37, 253).fill_(poison);
          t.narrow(1, 520, 80).fill_(poison);
        }
        const Results got = run(c, dirty, kIthaca);
        EXPECT_FALSE(at::equal(got.out.narrow(1, 37, 253), want.out.narrow(1, 37, 253)));
        for (const auto& [name, field] : fields()) {
          const int64_t dim = field == &Results::lse ? 2 : 1;
          for (const auto& [begin, length] : {std::pair{0, 37}, {290, 1}, {291, 229}, {520, 80}})
            EXPECT_TRUE(test::same_bits((got.*field).narrow(dim, begin, length),
                                        (want.*field).narrow(dim, begin, length)))
                << name << " at " << begin << " of type " << type;
        }
      }
    }
}

// Every vector code that this machine has, bf16 with dot products and without.
class AttentionTier : public testing::TestWithParam<CpuTier> {
 protected:
  void SetUp() override {
    if (!has_tier(this_processor(), GetParam()))
      GTEST_SKIP() << "this processor lacks " << cpu_tier_name(GetParam());
  }
  Results run(const Case& c, const Inputs& in) const {
    const AttentionOutput f =
        attention::forward(in.q, in.k, in.v, c.q_rows, c.k_rows, c.heads, c.pattern, GetParam());
    const AttentionGrads g = attention::backward(in.dout, in.q, in.k, in.v, f.out, f.lse, c.q_rows, c.k_rows,
                                                 c.heads, c.pattern, GetParam());
    return {f.out, f.lse, g.dq, g.dk, g.dv};
  }
};
constexpr at::ScalarType kTypes[] = {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf};

TEST_P(AttentionTier, EqualsTheNaiveTwin) {
  for (int i = 0; i < 45; ++i) {
    Dice dice(static_cast<uint64_t>(i));
    const Case c = random_case(dice);
    SCOPED_TRACE(str("case ", i, ": ", describe(c)));
    const Inputs exact = inputs_of(c, 10 * static_cast<uint64_t>(i));
    for (const at::ScalarType type : kTypes) {
      const Inputs in = exact.to(type);
      const Results got = run(c, in), want = ithaca::run(c, in.to(at::kDouble), kNaive);
      for (const auto& [name, field] : fields())
        ASSERT_LE(test::distance(got.*field, want.*field), tolerance_of(type)) << name << " of " << type;
    }
  }
}

// Bits of a score, relative to 1, that the type's sums keep.
double epsilon_of(at::ScalarType type) {
  return type == at::kDouble ? 0x1p-52 : 0x1p-23;
}

// Scores up to the largest numbers: where one key takes all, results are as exact as ever; where several share, a score's
// own rounding is what its exponential loses. Head size 40: the scale is no power of two.
TEST_P(AttentionTier, LargeScoresEqualTheNaiveTwin) {
  const Rows rows{{0, 130}};
  for (const AttentionPattern& pattern : {AttentionPattern{},
                                          {.causal = false},
                                          {.scale = 1.5},
                                          {.alibi_slopes = alibi_slopes(2)},
                                          {.causal = false, .window = 20}})
    for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16})
      for (const double size : {1e2, 3e3, 1e6, 1e15, 1e30, 6e36}) {
        SCOPED_TRACE(ithaca::str(type, " scores of ", size, " causal ", pattern.causal, " alibi ",
                                 pattern.alibi_slopes.size(), " window ", pattern.window));
        const Case c{1, 40, rows, rows, HeadRange::all(2, 1), pattern};
        Inputs in = inputs_of(c, 3);
        in.q = in.q * size;
        in = in.to(type);
        const Results got = run(c, in), want = ithaca::run(c, in.to(at::kDouble), kNaive);
        const double k_size = in.k.abs().max().item<double>(), q_size = in.q.abs().max().item<double>();
        // Beyond a million no two keys of these rows are near enough to share.
        const double t = tolerance_of(type) + (size > 1e6 ? 0 : 30 * size * epsilon_of(type));
        EXPECT_LE(test::distance(got.out, want.out), t);
        EXPECT_LE(test::distance(got.lse, want.lse), tolerance_of(type));
        EXPECT_LE(test::distance(got.dv, want.dv), t);
        // dP - delta cancels where one key takes all: what is left of it is multiplied by k and q.
        EXPECT_LE((got.dq - want.dq).abs().max().item<double>(), t * k_size);
        EXPECT_LE((got.dk - want.dk).abs().max().item<double>(), t * q_size);
      }
}

// Many keys of one very large score share; a row whose scores are all minus infinity sees nothing; a score of infinity
// makes a NaN of its row and of nothing else.
TEST_P(AttentionTier, ScoresThatOverflow) {
  const int64_t s = 70, d = 16;
  const Rows rows{{0, s}};
  const Case c{1, d, rows, rows, HeadRange::all(1, 1), {.causal = false}};
  const double infinity = std::numeric_limits<double>::infinity();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Inputs in = inputs_of(c, 4).to(type);
    in.k.fill_(1);
    in.q.select(1, 0).fill_(0x1p120);  // scores 2^122, all alike
    in.q.select(1, 1).fill_(0x1p126);  // infinity
    in.q.select(1, 2).fill_(-0x1p126);
    const Results got = run(c, in);
    EXPECT_LE(test::distance(got.out.select(1, 0), in.v.to(at::kDouble).mean(1)), tolerance_of(type));
    EXPECT_EQ(got.lse[0][0][0].item<double>(), 0x1p122);
    EXPECT_TRUE(got.out.select(1, 1).isnan().all().item<bool>());
    EXPECT_EQ(got.lse[0][0][1].item<double>(), infinity);
    EXPECT_EQ(got.out.select(1, 2).abs().max().item<double>(), 0);
    EXPECT_EQ(got.lse[0][0][2].item<double>(), -infinity);
    const Results naive = ithaca::run(c, in, kNaive);
    const auto alike = [](const at::Tensor& a, const at::Tensor& b) {
      return a.eq(b).logical_or(a.isnan().logical_and(b.isnan())).all().item<bool>();
    };
    for (const int64_t row : {1, 2}) {
      EXPECT_TRUE(alike(got.out.select(1, row), naive.out.select(1, row)));
      EXPECT_TRUE(alike(got.lse.select(2, row), naive.lse.select(2, row)));
      EXPECT_TRUE(alike(got.dq.select(1, row), naive.dq.select(1, row)));
    }
    EXPECT_FALSE(got.out.narrow(1, 3, s - 3).isnan().any().item<bool>());
    EXPECT_FALSE(got.dq.narrow(1, 3, s - 3).isnan().any().item<bool>());
    // Every key met the row of NaN.
    EXPECT_TRUE(got.dk.isnan().all().item<bool>() && naive.dk.isnan().all().item<bool>());
  }
}

// A logsumexp far below the scores, as no forward gives it: probabilities are infinite, as the naive twin's, never negative.
TEST_P(AttentionTier, ExponentialsOverflowToInfinity) {
  const Rows rows{{0, 40}};
  const Case c{1, 16, rows, rows, HeadRange::all(1, 1), {.causal = false}};
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const double lse : {-100.0, -200.0, -1e6}) {
      Inputs in = inputs_of(c, 6).to(type);
      in.v.abs_();
      in.dout.abs_();
      const at::Tensor out = at::zeros(in.q.sizes(), type), given = at::full({1, 1, 40}, lse, at::kFloat);
      const AttentionGrads got = attention::backward(in.dout, in.q, in.k, in.v, out, given, rows, rows,
                                                     c.heads, c.pattern, GetParam());
      EXPECT_TRUE(got.dv.eq(std::numeric_limits<double>::infinity()).all().item<bool>()) << lse;
    }
}

// Positions that float32 does not hold: what is near is told apart, what is far has its distance to float32's rounding.
TEST_P(AttentionTier, LatePositionsEqualTheNaiveTwin) {
  constexpr int64_t kEnd = int64_t{1} << 30, kFloat = int64_t{1} << 24;
  const Rows late{{kEnd - 75, 75}}, keys{{1, 40}, {kFloat + 1, 50}, {kEnd - 75, 75}};
  std::vector<AttentionPattern> patterns(6);
  patterns[1].window = 33;
  patterns[2].alibi_slopes = alibi_slopes(2);
  patterns[3].alibi_slopes = {0x1p-24, 0x1p-28};  // far keys weigh
  patterns[4].sparse = {.block = 16, .num_local_blocks = 4, .num_global_blocks = 1};
  patterns[5] = {.causal = false, .window = kFloat + 3, .alibi_slopes = {0x1p-26, 0.25}};
  for (std::size_t i = 0; i < patterns.size(); ++i)
    for (const at::ScalarType type : kTypes) {
      const Case c{1, 24, late, keys, HeadRange::all(2, 1), patterns[i]};
      const Inputs in = inputs_of(c, 8).to(type);
      const Results got = run(c, in), want = ithaca::run(c, in.to(at::kDouble), kNaive);
      for (const auto& [name, field] : fields())
        EXPECT_LE(test::distance(got.*field, want.*field), tolerance_of(type))
            << name << " of " << type << ", pattern " << i;
    }
}

std::string tier_name(const testing::TestParamInfo<CpuTier>& tier) {
  return cpu_tier_name(tier.param);
}
INSTANTIATE_TEST_SUITE_P(All, AttentionTier,
                         testing::Values(CpuTier::kBaseline, CpuTier::kAvx2, CpuTier::kAvx512,
                                         CpuTier::kAvx512Bf16),
                         tier_name);

// The same bits every time and on any number of threads.
TEST(AttentionProperty, BitsDependOnNothingElse) {
  const int threads = at::get_num_threads();
  const Case several{2, 64, {{0, 700}}, {{0, 700}}, HeadRange::all(9, 3), {}};
  // 5 and 6 chunks in the backward.
  const Case five{1, 16, {{0, 10300}}, {{0, 10300}}, HeadRange::all(2, 1), {.window = 300}};
  const Case six{1, 16, {{0, 12300}}, {{0, 12300}}, HeadRange::all(1, 1), {.causal = false, .window = 3000}};
  for (const auto& [c, type] :
       {std::pair{several, at::kFloat}, {several, at::kBFloat16}, {five, at::kFloat}, {six, at::kBFloat16}}) {
    const Inputs in = inputs_of(c, 5).to(type);
    at::set_num_threads(1);
    const Results want = run(c, in, kIthaca);
    for (const int n : {1, 2, 3}) {
      at::set_num_threads(n);
      const Results got = run(c, in, kIthaca);
      for (const auto& [name, field] : fields())
        EXPECT_TRUE(test::same_bits(got.*field, want.*field)) << name << " on " << n << " threads";
    }
  }
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace ithaca
