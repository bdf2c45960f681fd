// Sequence-parallel attention against one rank: out, dq, dk, dv in float64 within 1e-10, and bytes against the
// formulas, for every scheme crossed with every shape and pattern: all pairs of values in the quick test, the
// full product in the long one (ITHACA_FULL=1).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <set>

#include "ithaca/base/error.h"
#include "tests/parity/sequence_case.h"

namespace ithaca {
namespace {

constexpr std::pair<int64_t, int64_t> kHeads[] = {{8, 8}, {8, 2}, {9, 3}, {7, 1}, {5, 5}, {28, 4}, {40, 8}};
constexpr int64_t kLengths[] = {1, 37, 64, 101, 256};
constexpr int64_t kBatches[] = {1, 3};

// Values of a case by their indices: scheme, heads, length, batch, causal, packing, alibi, window, sparsity.
using Choice = std::vector<int>;

std::vector<int> value_counts(const std::vector<SchemeCase>& schemes) {
  return {static_cast<int>(schemes.size()), std::size(kHeads), std::size(kLengths), 2, 2, 2, 2, 2, 3};
}

ShapeCase shape_of(const Choice& choice) {
  ShapeCase shape;
  std::tie(shape.heads, shape.kv_heads) = kHeads[choice[1]];
  shape.length = kLengths[choice[2]];
  shape.batch = kBatches[choice[3]];
  shape.head_dim = shape.heads > 9 ? 4 : 8;
  shape.causal = choice[4] == 0;
  shape.packing = choice[5] == 0 ? Packing::kNone : Packing::kRandom;
  shape.alibi = choice[6] == 1;
  shape.window = choice[7] == 1;
  shape.sparsity = static_cast<Sparsity>(choice[8]);
  return shape;
}

// Greedy all-pairs: each new case is the best of a few random ones, until no pair is left.
std::vector<Choice> all_pairs(const std::vector<int>& counts) {
  std::set<std::tuple<int, int, int, int>> missing;  // dim, value, dim, value
  const int dims = static_cast<int>(counts.size());
  for (int a = 0; a < dims; ++a)
    for (int b = a + 1; b < dims; ++b)
      for (int x = 0; x < counts[a]; ++x)
        for (int y = 0; y < counts[b]; ++y) missing.insert({a, x, b, y});
  std::mt19937 random(1);
  std::vector<Choice> cases;
  while (!missing.empty()) {
    const auto [a, x, b, y] = *missing.begin();
    Choice best;
    std::vector<std::tuple<int, int, int, int>> best_pairs;
    for (int attempt = 0; attempt < 30; ++attempt) {
      Choice choice;
      for (const int count : counts)
        choice.push_back(static_cast<int>(random() % static_cast<unsigned>(count)));
      choice[a] = x;
      choice[b] = y;
      std::vector<std::tuple<int, int, int, int>> pairs;
      for (int i = 0; i < dims; ++i)
        for (int j = i + 1; j < dims; ++j)
          if (missing.contains({i, choice[i], j, choice[j]})) pairs.emplace_back(i, choice[i], j, choice[j]);
      if (pairs.size() > best_pairs.size()) {
        best = choice;
        best_pairs = pairs;
      }
    }
    for (const auto& pair : best_pairs) missing.erase(pair);
    cases.push_back(best);
  }
  return cases;
}

class SequenceParity : public testing::TestWithParam<AttentionBackend> {};
INSTANTIATE_TEST_SUITE_P(Backends, SequenceParity,
                         testing::Values(AttentionBackend::kNaive, AttentionBackend::kIthaca));

TEST_P(SequenceParity, AllPairsOfSchemesShapesAndPatterns) {
  const std::vector<SchemeCase> schemes = all_schemes({1, 2, 3, 4, 6, 8});
  const std::vector<Choice> cases = all_pairs(value_counts(schemes));
  ASSERT_GE(cases.size(), 400U);
  unsigned seed = 0;
  for (const Choice& choice : cases) {
    expect_parity(schemes[choice[0]], make_problem(shape_of(choice), ++seed), GetParam());
    if (HasFailure()) FAIL() << "the first case that fails ends the test";
  }
  std::printf("%zu cases, %zu schemes\n", cases.size(), schemes.size());
}

// Every scheme, heads, length, batch and causality with the plain pattern, each pattern alone, all together.
TEST(SequenceParityLong, FullProduct) {
  if (std::getenv("ITHACA_FULL") == nullptr) GTEST_SKIP() << "set ITHACA_FULL=1 (ctest -L long)";
  const std::vector<SchemeCase> schemes = all_schemes({1, 2, 3, 4, 6, 8});
  const std::vector<Choice> patterns = {{0, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0},
                                        {0, 0, 0, 1}, {0, 0, 0, 2}, {1, 1, 1, 1}};
  std::vector<Choice> shapes;
  for (int h = 0; h < static_cast<int>(std::size(kHeads)); ++h)
    for (int l = 0; l < static_cast<int>(std::size(kLengths)); ++l)
      for (int b = 0; b < 2; ++b)
        for (int c = 0; c < 2; ++c)
          for (const Choice& p : patterns) shapes.push_back({0, h, l, b, c, p[0], p[1], p[2], p[3]});
  std::shuffle(shapes.begin(), shapes.end(),
               std::mt19937(1));  // a run that is cut short has seen some of all
  unsigned seed = 0;
  for (const Choice& choice : shapes) {
    const Problem problem = make_problem(shape_of(choice), ++seed);  // the naive twin is most of the time
    for (const SchemeCase& scheme : schemes) expect_parity(scheme, problem, AttentionBackend::kIthaca);
    if (HasFailure()) FAIL() << "the first shape that fails ends the test";
    if (seed % 20 == 0)
      std::printf("%zu of %zu cases\n", seed * schemes.size(), shapes.size() * schemes.size()),
          std::fflush(stdout);
  }
}

}  // namespace
}  // namespace ithaca
