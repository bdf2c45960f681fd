// The tables' agreement with transformers is in tests/models (golden files of every type); here is what those
// cannot show.
#include "ithaca/nn/rope.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/nn/within.h"

namespace ithaca {
namespace {

at::Tensor positions(int64_t length) {
  return at::arange(length, at::kLong).unsqueeze(0);
}

TEST(RopeTables, DefaultIsTheFormula) {
  RopeConfig config;
  config.theta = 500.0;
  const RopeTables tables = rope_tables(config, 8, positions(50), 50, at::kFloat);
  ASSERT_EQ(tables.cos.sizes(), (at::IntArrayRef{1, 50, 4}));
  for (const int64_t position : {0, 1, 17, 49}) {
    for (int64_t pair = 0; pair < 4; ++pair) {
      const double angle =
          static_cast<double>(position) * std::pow(500.0, -2.0 * static_cast<double>(pair) / 8.0);
      EXPECT_NEAR(tables.cos[0][position][pair].item<double>(), std::cos(angle), 1e-5);
      EXPECT_NEAR(tables.sin[0][position][pair].item<double>(), std::sin(angle), 1e-5);
    }
  }
}

// float32 has no position 2^24 + 1.
TEST(RopeTables, LatePositionsStayApartAndRight) {
  RopeConfig config;
  config.theta = 500000.0;
  constexpr int64_t kHeadDim = 64, kFirst = int64_t{1} << 24, kEnd = int64_t{1} << 30;
  const std::vector<int64_t> at{0,          1,          4095,        kFirst - 1, kFirst,
                                kFirst + 1, kFirst + 3, 123'456'789, kEnd - 2,   kEnd - 1};
  const at::Tensor ids = at::tensor(at, at::kLong).unsqueeze(0);
  // The frequencies are float32's, as at any other length.
  const at::Tensor exponents = at::arange(0, kHeadDim, 2, at::kFloat).div(static_cast<double>(kHeadDim));
  const at::Tensor frequency = at::pow(config.theta, exponents).reciprocal().to(at::kDouble);
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const RopeTables tables = rope_tables(config, kHeadDim, ids, kEnd, dtype);
    // An angle near 2^30 is rounded to 2^-24 even in float64.
    constexpr double tolerance = 1e-7;
    for (std::size_t i = 0; i < at.size(); ++i)
      for (int64_t pair = 0; pair < kHeadDim / 2; ++pair) {
        const long double angle =
            static_cast<long double>(at[i]) * static_cast<long double>(frequency[pair].item<double>());
        const auto row = static_cast<int64_t>(i);
        EXPECT_NEAR(tables.cos[0][row][pair].item<double>(), static_cast<double>(std::cos(angle)), tolerance);
        EXPECT_NEAR(tables.sin[0][row][pair].item<double>(), static_cast<double>(std::sin(angle)), tolerance);
      }
  }
  // The rows at hand may be late though their length was not said.
  const RopeTables said = rope_tables(config, kHeadDim, ids, kEnd, at::kFloat);
  EXPECT_TRUE(rope_tables(config, kHeadDim, ids, 1, at::kFloat).sin.equal(said.sin));
}

TEST(RopeTables, FollowThePositionsHandedIn) {
  const RopeConfig config;
  const RopeTables whole = rope_tables(config, 8, positions(32), 32, at::kFloat);
  const RopeTables part = rope_tables(config, 8, positions(32).slice(1, 20, 32), 32, at::kFloat);
  EXPECT_TRUE(part.cos.equal(whole.cos.slice(1, 20, 32)));
  EXPECT_TRUE(part.sin.equal(whole.sin.slice(1, 20, 32)));
}

TEST(RopeTables, Float64HoldsTheFloat32Angles) {
  const RopeConfig config;
  const RopeTables fine = rope_tables(config, 8, positions(9), 9, at::kDouble);
  EXPECT_EQ(fine.cos.scalar_type(), at::kDouble);
  EXPECT_TRUE(fine.cos.to(at::kFloat).equal(rope_tables(config, 8, positions(9), 9, at::kFloat).cos));
}

TEST(RopeTables, DynamicGrowsWithTheGlobalLengthOnly) {
  RopeConfig config;
  config.type = RopeConfig::Type::kDynamic;
  config.factor = 2.0;
  config.original_max_position_embeddings = 16;
  const RopeTables plain = rope_tables(RopeConfig{}, 8, positions(16), 16, at::kFloat);
  EXPECT_TRUE(rope_tables(config, 8, positions(16), 16, at::kFloat).cos.equal(plain.cos));
  // base * (factor * 64 / 16 - (factor - 1))^(8 / 6), on the slowest pair
  const RopeTables grown = rope_tables(config, 8, positions(16), 64, at::kFloat);
  const double base = 10000.0 * std::pow(2.0 * 64.0 / 16.0 - 1.0, 8.0 / 6.0);
  EXPECT_NEAR(grown.sin[0][15][3].item<double>(), std::sin(15.0 * std::pow(base, -6.0 / 8.0)), 1e-7);
  EXPECT_FALSE(grown.cos.equal(plain.cos));
}

TEST(RopeTables, YarnScalingIsInBothTables) {
  RopeConfig config;
  config.type = RopeConfig::Type::kYarn;
  config.factor = 4.0;
  config.original_max_position_embeddings = 32;
  const double expected = 0.1 * std::log(4.0) + 1.0;
  const RopeTables tables = rope_tables(config, 8, positions(5), 5, at::kFloat);
  const at::Tensor radius = tables.cos.square().add(tables.sin.square()).sqrt();
  EXPECT_WITHIN(radius, at::Tensor(radius.clone().fill_(expected)), 1e-6);
}

TEST(ApplyRotary, GradientIsTheInverseRotation) {
  const RopeTables tables = rope_tables(RopeConfig{}, 8, positions(6), 6, at::kDouble);
  const at::Tensor x = at::randn({1, 6, 3, 8}, at::kDouble).set_requires_grad(true);
  const at::Tensor y = apply_rotary(x, tables);
  y.backward(y.detach());  // R^T R x = (cos^2 + sin^2) x, and the tables are rounded to float32
  const at::Tensor radius = tables.cos.square().add(tables.sin.square());
  EXPECT_WITHIN(x.grad(), x.detach().mul(at::cat({radius, radius}, -1).unsqueeze(2)), 1e-12);
}

}  // namespace
}  // namespace ithaca
