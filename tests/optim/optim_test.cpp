#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "ithaca/base/error.h"
#include "ithaca/optim/clip.h"
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
    const std::vector<std::string> moments = {"exp_avg", "exp_avg_sq"};
    ASSERT_EQ(
        optimizer.state_kinds(dtype),
        dtype == at::kBFloat16 ? (std::vector<std::string>{"master", "exp_avg", "exp_avg_sq"}) : moments);
    EXPECT_EQ(optimizer.state_bytes(), 1008 * (dtype == at::kFloat ? 8 : dtype == at::kDouble ? 16 : 12));
    if (dtype == at::kBFloat16) {
      EXPECT_LE(largest_gap(optimizer.state("master", 0), fw.p), tolerance);
      EXPECT_TRUE(at::equal(w, optimizer.state("master", 0).to(at::kBFloat16)));
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
    b.copy_(a);
    Optimizer resumed({}, {{"w", b, grad}});
    for (const std::string& kind : straight.state_kinds(dtype))
      resumed.state(kind, 0).copy_(straight.state(kind, 0));
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
