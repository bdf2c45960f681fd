// Gradients at 64K tokens, which no peer tests: one layer of attention in float32 on 4 ranks, every method,
// against float64. (ITHACA_FULL=1, ctest -L long.)
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tests/parity/sequence_case.h"

namespace ithaca {
namespace {

double relative_rms(const at::Tensor& a, const at::Tensor& exact) {
  const at::Tensor difference = a.to(at::kDouble) - exact;
  return std::sqrt(difference.square().mean().item().toDouble() / exact.square().mean().item().toDouble());
}

TEST(SequenceParityLong, GradientsAt64KTokens) {
  if (std::getenv("ITHACA_FULL") == nullptr) GTEST_SKIP() << "set ITHACA_FULL=1 (ctest -L long)";
  const ShapeCase shape = {.heads = 4, .kv_heads = 2, .head_dim = 32, .length = 65536, .batch = 1};
  const AttentionPattern pattern = shape.pattern(1);
  const Inputs exact = random_inputs(shape, 1);
  Inputs single = {exact.q.to(at::kFloat), exact.k.to(at::kFloat), exact.v.to(at::kFloat),
                   exact.dout.to(at::kFloat)};
  // The float64 run takes the inputs that the others take.
  const Attended expected = attend_whole({single.q.to(at::kDouble), single.k.to(at::kDouble),
                                          single.v.to(at::kDouble), single.dout.to(at::kDouble)},
                                         pattern, AttentionBackend::kIthaca);
  const Attended whole = attend_whole(single, pattern, AttentionBackend::kIthaca);
  int methods = 0;
  for (const SchemeCase& scheme : all_schemes({4})) {
    if (scheme.ring_inner) continue;
    SCOPED_TRACE(scheme.name());
    const Attended parallel = attend_parallel(single, pattern, scheme, AttentionBackend::kIthaca);
    const auto check = [&](const char* name, const at::Tensor& actual, const at::Tensor& one,
                           const at::Tensor& truth) {
      const double error = relative_rms(actual, truth), bound = 2 * relative_rms(one, truth);
      std::printf("%s: %s relative RMS error %.2e, one rank's %.2e\n", scheme.name().c_str(), name, error,
                  bound / 2);
      EXPECT_LE(error, bound) << name;
    };
    check("out", parallel.out, whole.out, expected.out);
    check("dq", parallel.dq, whole.dq, expected.dq);
    check("dk", parallel.dk, whole.dk, expected.dk);
    check("dv", parallel.dv, whole.dv, expected.dv);
    ++methods;
  }
  EXPECT_EQ(methods, 9);
}

}  // namespace
}  // namespace ithaca
