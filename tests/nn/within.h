// "Within t": max|a - b| <= t * max(1, max|b|).
#pragma once
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace ithaca::testing {

// Compared in float64; the message holds the largest difference.
inline ::testing::AssertionResult within(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  if (a.sizes() != b.sizes())
    return ::testing::AssertionFailure() << "shapes " << a.sizes() << " and " << b.sizes();
  const at::Tensor expected = b.to(at::kDouble);
  const double difference = a.to(at::kDouble).sub(expected).abs().max().item<double>();
  const double bound = tolerance * std::max(1.0, expected.abs().max().item<double>());
  if (difference <= bound) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "largest difference " << difference << ", allowed " << bound;
}

}  // namespace ithaca::testing

#define EXPECT_WITHIN(a, b, tolerance) EXPECT_TRUE(::ithaca::testing::within(a, b, tolerance))
