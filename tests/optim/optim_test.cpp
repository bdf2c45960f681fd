#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "ithaca/base/error.h"
#include "ithaca/optim/clip.h"
#include "ithaca/optim/master.h"
#include "ithaca/optim/optimizer.h"
#include "ithaca/optim/schedule.h"

namespace ithaca {
namespace {

at::Tensor random(int64_t n, uint64_t seed, at::ScalarType dtype) {
  at::Tensor t = at::empty({n}, at::kDouble);
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < n; ++i) t.data_ptr<double>()[i] = normal(engine);
  return t.to(dtype);
}

double largest_gap(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// Loshchilov & Hutter, algorithm 2, one element at a time in float64.
struct Formula {
  at::Tensor p, m, v;
  explicit Formula(const at::Tensor& start)
      : p(start.to(at::kDouble).clone()), m(at::zeros_like(p)), v(at::zeros_like(p)) {}
  void step(const at::Tensor& grad, int64_t t, double lr, double decay, const OptimizerOptions& o) {
    const at::Tensor g = grad.to(at::kDouble);
    p.mul_(1 - lr * decay);
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    p.sub_(lr * (m / (1 - std::pow(o.beta1, t))) / ((v / (1 - std::pow(o.beta2, t))).sqrt() + o.eps));
  }
};

TEST(Optimizer, AdamWEqualsTheFormula) {
  const OptimizerOptions options{OptimizerOptions::Kind::kAdamW, 0.9, 0.95, 1e-8, 0.1};
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::ScalarType acc = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const double tolerance =
        dtype == at::kDouble ? 1e-15 : 1.5e-7;  // five steps of half an ulp (6e-8) below 1
    at::Tensor w = random(1001, 1, dtype) * 0.2, b = random(7, 2, dtype) * 0.2;
    const at::Tensor gw = at::zeros({1001}, acc), gb = at::zeros({7}, acc);
    Formula fw(w), fb(b);
    Optimizer optimizer(options, {{"w", w, gw, true}, {"b", b, gb, false}});
    for (int64_t t = 1; t <= 5; ++t) {
      gw.copy_(random(1001, 10 + t, acc));
      gb.copy_(random(7, 20 + t, acc));
      optimizer.step(1e-2 / t);
      fw.step(gw, t, 1e-2 / t, 0.1, options);
      fb.step(gb, t, 1e-2 / t, 0, options);
    }
    EXPECT_EQ(optimizer.step_count(), 5);
    std::string kinds;
    for (const StateKind& kind : optimizer.state_kinds(dtype)) kinds += kind.name + " ";
    ASSERT_EQ(kinds, dtype == at::kBFloat16 ? "master_low exp_avg exp_avg_sq " : "exp_avg exp_avg_sq ");
    EXPECT_EQ(optimizer.state_bytes(), 1008 * (dtype == at::kFloat ? 8 : dtype == at::kDouble ? 16 : 10));
    if (dtype == at::kBFloat16) {
      const at::Tensor master = at::empty({1001}, at::kFloat);
      join_master(w, optimizer.state("master_low", 0), master);
      EXPECT_LE(largest_gap(master, fw.p), tolerance);
      EXPECT_TRUE(at::equal(w, master.to(at::kBFloat16)));
    } else {
      EXPECT_LE(largest_gap(w, fw.p), tolerance);
      EXPECT_LE(largest_gap(b, fb.p), tolerance);
    }
  }
}

TEST(Optimizer, ContinuesFromCopiedState) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    at::Tensor a = random(50, 1, dtype), b = a.clone();
    const at::Tensor grad = at::zeros({50}, at::kFloat);
    Optimizer straight({}, {{"w", a, grad}});
    for (int t = 0; t < 3; ++t) grad.copy_(random(50, t, at::kFloat)), straight.step(1e-3);
    Optimizer resumed({}, {{"w", b, grad}});
    b.copy_(a);  // half of the masters
    for (const auto& [kind, type] : straight.state_kinds(dtype)) {
      ASSERT_EQ(straight.state(kind, 0).scalar_type(), type);
      resumed.state(kind, 0).copy_(straight.state(kind, 0));
    }
    resumed.set_step_count(straight.step_count());
    grad.copy_(random(50, 9, at::kFloat));
    straight.step(1e-3);
    resumed.step(1e-3);
    EXPECT_TRUE(at::equal(a, b));
    EXPECT_TRUE(at::equal(straight.state("exp_avg", 0), resumed.state("exp_avg", 0)));
  }
}

TEST(Optimizer, SgdIsTheGradientTimesTheRate) {
  at::Tensor w = random(9, 1, at::kDouble);
  const at::Tensor start = w.clone(), grad = random(9, 2, at::kDouble);
  Optimizer optimizer({OptimizerOptions::Kind::kSgd}, {{"w", w, grad}});
  optimizer.step(0.1);
  EXPECT_LE(largest_gap(w, start - 0.1 * grad), 1e-16);
  EXPECT_TRUE(optimizer.state_kinds(at::kDouble).empty());
  EXPECT_THROW(Optimizer({}, {{"w", w, at::zeros({8}, at::kDouble)}}), Error);
  EXPECT_THROW(Optimizer({}, {{"w", w.to(at::kHalf), at::zeros({9}, at::kFloat)}}), Error);
}

// A matrix of more than one piece: the same bits as in pieces of its own.
TEST(Optimizer, PiecesOfALargeTensorAreUpdatedAlike) {
  constexpr int64_t kRows = 601, kColumns = 1000, kCut = 1 << 18;  // two pieces and a part of a third
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    at::Tensor whole = random(kRows * kColumns, 1, dtype).view({kRows, kColumns}),
               flat = whole.view({-1}).clone();
    const at::Tensor grad = random(kRows * kColumns, 2, at::kFloat);
    std::vector<OptimizerEntry> parts;
    for (int64_t begin = 0; begin < flat.numel(); begin += kCut) {
      const int64_t count = std::min(kCut, flat.numel() - begin);
      parts.push_back({"part", flat.narrow(0, begin, count), grad.narrow(0, begin, count)});
    }
    ASSERT_EQ(parts.size(), 3u);
    Optimizer one({.weight_decay = 0.1}, {{"w", whole, grad.view({kRows, kColumns})}}),
        three({.weight_decay = 0.1}, parts);
    for (int t = 0; t < 2; ++t) one.step(1e-2), three.step(1e-2);
    EXPECT_TRUE(at::equal(whole.view({-1}), flat));
  }
}

// Every bit of a float32 master comes back; the bf16 half is the nearest.
TEST(Master, IsTheWeightAndTheBitsItLacks) {
  std::vector<uint32_t> bits = {0,          0x80000000, 1,          0x3f800000, 0x3f808000,
                                0x3f818000, 0xbf808000, 0x3f807fff, 0x3f808001, 0x7f7fffff,
                                0xff7fffff, 0x7f800000, 0xff800000, 0x00008000, 0x007fffff};
  std::mt19937 engine(3);
  while (bits.size() < 40'000)  // of all exponents but that of NaN
    if (const uint32_t b = engine(); (b & 0x7f800000) != 0x7f800000) bits.push_back(b);
  const auto n = static_cast<int64_t>(bits.size());
  const at::Tensor master = at::empty({n}, at::kFloat), back = at::empty_like(master);
  std::memcpy(master.data_ptr(), bits.data(), master.nbytes());
  const at::Tensor weight = at::empty({n}, at::kBFloat16), low = at::empty({n}, at::kShort);
  split_master(master, weight, low);
  join_master(weight, low, back);
  EXPECT_EQ(std::memcmp(back.data_ptr(), bits.data(), back.nbytes()), 0);
  const at::Tensor nearest = master.to(at::kBFloat16);
  int64_t ties = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t got = weight.const_data_ptr<at::BFloat16>()[i].x,
                   even = nearest.const_data_ptr<at::BFloat16>()[i].x;
    const bool tie = (bits[static_cast<size_t>(i)] & 0xffff) == 0x8000;
    ties += tie && got != even;
    EXPECT_EQ(got, tie ? (bits[static_cast<size_t>(i)] >> 16) + 1 : even)
        << std::hex << bits[static_cast<size_t>(i)];
  }
  EXPECT_GE(ties, 2);  // away from zero where the even one is nearer to it
  EXPECT_THROW(split_master(master, weight, low.to(at::kInt)), Error);
  EXPECT_THROW(join_master(weight.narrow(0, 0, 3), low, back), Error);
}

TEST(Schedule, EqualsTransformers) {
  std::ifstream file(std::string(ITHACA_SOURCE_DIR) + "/tests/golden/optim/schedules.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_GE(cases.size(), 8u);
  for (const auto& c : cases) {
    const ScheduleOptions options{c["type"], c["learning_rate"], c["warmup_steps"], c["warmup_ratio"],
                                  c["total_steps"]};
    ASSERT_GT(c["rates"].size(), 20u);
    for (size_t n = 0; n < c["rates"].size(); ++n)
      EXPECT_NEAR(learning_rate_at(options, n), c["rates"][n].get<double>(), 1e-18)
          << options.type << " step " << n;
  }
  try {
    learning_rate_at({"polynomial"}, 0);
    FAIL() << "nothing was thrown";
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(),
                testing::HasSubstr(
                    "\"polynomial\" is unknown; known are linear, cosine, constant, constant_with_warmup"));
  }
}

TEST(Clip, SumOfSquaresIsExactAndTheSameForAnyNumberOfThreads) {
  const at::Tensor x = random(300'001, 1, at::kFloat);
  const double want = x.to(at::kDouble).square().sum().item<double>();
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double one = sum_of_squares(x);
  at::set_num_threads(2);
  const double two = sum_of_squares(x);
  at::set_num_threads(threads);
  EXPECT_EQ(one, two);
  EXPECT_NEAR(one, want, 1e-12 * want);
  EXPECT_NEAR(sum_of_squares(x.to(at::kDouble)), want, 1e-12 * want);
  EXPECT_NEAR(sum_of_squares(x.to(at::kBFloat16)),
              x.to(at::kBFloat16).to(at::kDouble).square().sum().item<double>(), 1e-9 * want);
  EXPECT_EQ(sum_of_squares(at::zeros({0}, at::kFloat)), 0);
  EXPECT_TRUE(std::isnan(sum_of_squares(at::full({3}, NAN, at::kFloat))));
}

TEST(Clip, Factor) {
  EXPECT_EQ(clip_factor(5, 0), 1);
  EXPECT_EQ(clip_factor(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(clip_factor(4, 1), 1 / (4 + 1e-6));
  EXPECT_TRUE(std::isnan(clip_factor(NAN, 1)));
  EXPECT_THROW(clip_factor(1, -1), Error);
}

}  // namespace
}  // namespace ithaca
