// RMSNorm, rotary embedding, SwiGLU, linear + cross-entropy: each against its naive twin run in float64, and
// the twins against numerical differentiation. bf16 bound: the relative RMS error is at most 1.5 times that
// of rounding the exact result once. Shape letters: N rows, C hidden, V vocabulary.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>
#include <hwy/highway.h>

#include <limits>
#include <mutex>
#include <set>
#include <thread>

#include "ithaca/base/cpu.h"
#include "ithaca/base/error.h"
#include "ithaca/kernels/reference.h"
#include "ithaca/kernels/rotary.h"
#include "tests/kernels/support.h"

namespace ithaca {
namespace {

using test::distance;
using test::random;
using testing::HasSubstr;

constexpr at::ScalarType kTypes[] = {at::kDouble, at::kFloat, at::kBFloat16};
constexpr int64_t kWidths[] = {1, 7, 64, 576, 577};

at::ScalarType opmath(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

// `got` of a kernel run in `dtype` against the exact result.
void expect_exact(const at::Tensor& got, const at::Tensor& exact, at::ScalarType dtype, const char* what) {
  ASSERT_EQ(got.sizes(), exact.sizes()) << what;
  if (dtype != at::kBFloat16 || got.scalar_type() != at::kBFloat16) {
    EXPECT_LE(distance(got, exact), dtype == at::kDouble ? 1e-12 : 1e-5) << what;
    return;
  }
  // Below a few dozen values one unlucky rounding decides; the bound is then that of the format, 2^-9 an
  // operation.
  const double once = test::relative_rms(exact.to(at::kBFloat16), exact);
  EXPECT_LE(test::relative_rms(got, exact), exact.numel() < 500 ? 2.0 / 256 : 1.5 * once) << what;
}

// Inputs as a kernel of `dtype` sees them, and their exact values.
struct Rounded {
  at::Tensor given, exact;
};
Rounded input(at::IntArrayRef sizes, uint64_t seed, at::ScalarType dtype) {
  const at::Tensor given = random(sizes, seed, dtype);
  return {given, given.to(at::kDouble)};
}

// Highway's targets, with and without what is above them. bf16's own dot products are attention's alone.
class VectorTier : public testing::TestWithParam<CpuTier> {
 protected:
  void SetUp() override {
    if (!has_tier(this_processor(), GetParam()))
      GTEST_SKIP() << "this processor lacks " << cpu_tier_name(GetParam());
#if HWY_ARCH_X86
    // A smaller bit is a better target.
    if (GetParam() == CpuTier::kBaseline) narrow(2 * HWY_AVX2 - 1);
    if (GetParam() == CpuTier::kAvx2) narrow(HWY_AVX2 - 1);
#endif
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
  }

 private:
  static void narrow(int64_t without) {
    hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & ~without);
  }
};
INSTANTIATE_TEST_SUITE_P(All, VectorTier,
                         testing::Values(CpuTier::kBaseline, CpuTier::kAvx2, CpuTier::kAvx512),
                         [](const auto& tier) { return std::string(cpu_tier_name(tier.param)); });

TEST_P(VectorTier, RmsNormEqualsNaive) {
  for (const at::ScalarType dtype : kTypes) {
    for (const int64_t c : kWidths) {
      SCOPED_TRACE(ithaca::str(dtype, " C ", c));
      const Rounded x = input({3, 67, c}, 1, dtype), w = input({c}, 2, dtype),
                    dy = input({3, 67, c}, 3, dtype);
      const RmsNormOutput f = rms_norm(x.given, w.given, 1e-5),
                          want = reference::rms_norm(x.exact, w.exact, 1e-5);
      expect_exact(f.y, want.y, dtype, "y");
      expect_exact(f.rstd, want.rstd, dtype, "rstd");
      const RmsNormGrads g = rms_norm_backward(dy.given, x.given, w.given, f.rstd);
      const RmsNormGrads want_g = reference::rms_norm_backward(dy.exact, x.exact, w.exact, want.rstd);
      if (c > 1)
        expect_exact(g.dx, want_g.dx, dtype, "dx");  // C = 1: dx is eps times something, all cancellation
      EXPECT_EQ(g.dweight.scalar_type(), opmath(dtype));
      expect_exact(g.dweight, want_g.dweight, dtype, "dweight");
    }
  }
}

TEST(RmsNorm, RoundsBeforeTheWeightAsTransformersDoes) {
  const at::Tensor x = random({64, 96}, 1, at::kBFloat16), w = random({96}, 2, at::kBFloat16);
  EXPECT_TRUE(test::same_bits(rms_norm(x, w, 1e-5).y.narrow(0, 0, 1),
                              rms_norm(x.narrow(0, 0, 1).contiguous(), w, 1e-5).y));
  EXPECT_LE(test::relative_rms(rms_norm(x, w, 1e-5).y, reference::rms_norm(x, w, 1e-5).y),
            1e-4);  // a last bit of rstd at most
}

// at::parallel_for is a template of ATen's headers: compiled without -fopenmp it is a loop on one thread.
TEST(Threads, AreUsed) {
  const int threads = at::get_num_threads();
  std::mutex mutex;
  std::set<std::thread::id> seen;
  at::set_num_threads(2);
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) {
    const std::lock_guard lock(mutex);
    seen.insert(std::this_thread::get_id());
  });
  at::set_num_threads(threads);
  EXPECT_EQ(seen.size(), 2u);
}

TEST(RmsNorm, SameBitsForAnyNumberOfThreads) {
  const at::Tensor x = random({1000, 64}, 1, at::kFloat), w = random({64}, 2, at::kFloat),
                   dy = random({1000, 64}, 3, at::kFloat);
  const int threads = at::get_num_threads();
  std::vector<RmsNormGrads> grads;
  for (const int n : {1, 2}) {
    at::set_num_threads(n);
    grads.push_back(rms_norm_backward(dy, x, w, rms_norm(x, w, 1e-6).rstd));
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(test::same_bits(grads[0].dweight, grads[1].dweight));
  EXPECT_TRUE(test::same_bits(grads[0].dx, grads[1].dx));
}

TEST(RmsNorm, NaiveGradientsEqualNumericalDifferentiation) {
  const at::Tensor x = random({3, 5}, 1), w = random({5}, 2), dy = random({3, 5}, 3);
  const RmsNormGrads g = reference::rms_norm_backward(dy, x, w, reference::rms_norm(x, w, 1e-2).rstd);
  const auto loss = [&](const at::Tensor& a, const at::Tensor& b) {
    return (reference::rms_norm(a, b, 1e-2).y * dy).sum().item<double>();
  };
  EXPECT_LE(distance(g.dx, test::numerical_gradient(x, [&](const at::Tensor& t) { return loss(t, w); })),
            1e-8);
  EXPECT_LE(distance(g.dweight, test::numerical_gradient(w, [&](const at::Tensor& t) { return loss(x, t); })),
            1e-8);
}

TEST_P(VectorTier, RotaryEqualsNaiveAndTurnsBack) {
  for (const at::ScalarType dtype : kTypes) {
    for (const int64_t d : {2, 14, 64, 96}) {
      SCOPED_TRACE(ithaca::str(dtype, " D ", d));
      const at::Tensor angle = random({2, 19, d / 2}, 5);
      const Rounded cos = input({2, 19, d / 2}, 0, opmath(dtype));  // replaced below; same dtype
      const at::Tensor c = angle.cos().to(cos.given.scalar_type()),
                       s = angle.sin().to(cos.given.scalar_type());
      const Rounded wide = input({2, 19, 5, d + 6}, 6, dtype);
      const at::Tensor x = wide.given.narrow(2, 1, 3).narrow(3, 2, d),
                       exact = wide.exact.narrow(2, 1, 3).narrow(3, 2, d);  // strided
      for (const bool inverse : {false, true}) {
        const at::Tensor got = rotary(x, c, s, inverse);
        EXPECT_TRUE(got.is_contiguous());
        EXPECT_EQ(got.scalar_type(), dtype);
        expect_exact(got, reference::rotary(exact, c.to(at::kDouble), s.to(at::kDouble), inverse), dtype,
                     "rotary");
      }
      EXPECT_TRUE(test::same_bits(rotary(x, c[1], s[1])[0],
                                  rotary(x, c[1].expand({2, 19, d / 2}), s[1].expand({2, 19, d / 2}))[0]));
      if (dtype == at::kDouble) {
        EXPECT_LE(distance(rotary(rotary(x, c, s), c, s, true), exact), 1e-14);
      }
    }
  }
}

TEST_P(VectorTier, SwigluEqualsNaive) {
  for (const at::ScalarType dtype : kTypes) {
    for (const int64_t c : kWidths) {
      SCOPED_TRACE(ithaca::str(dtype, " C ", c));
      const Rounded g = input({31, c}, 1, dtype), u = input({31, c}, 2, dtype), dy = input({31, c}, 3, dtype);
      expect_exact(swiglu(g.given, u.given), reference::swiglu(g.exact, u.exact), dtype, "y");
      const SwigluGrads got = swiglu_backward(dy.given, g.given, u.given),
                        want = reference::swiglu_backward(dy.exact, g.exact, u.exact);
      expect_exact(got.dgate, want.dgate, dtype, "dgate");
      expect_exact(got.dup, want.dup, dtype, "dup");
    }
  }
}

TEST_P(VectorTier, SwigluExtremesStayFiniteAndNanShows) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const at::ScalarType dtype : kTypes) {
    const at::Tensor gate =
                         at::tensor(std::vector<double>{-1000, -90, 90, 1000, 0, nan}, at::kDouble).to(dtype),
                     up = at::full({6}, 1, gate.options());
    const at::Tensor y = swiglu(gate, up).to(at::kDouble);
    EXPECT_LE(distance(y.narrow(0, 0, 5), at::tensor(std::vector<double>{0, 0, 90, 1000, 0}, at::kDouble)),
              1e-30);
    EXPECT_TRUE(y[5].isnan().item<bool>());
    const SwigluGrads g = swiglu_backward(up, gate, up);
    EXPECT_TRUE(g.dgate.narrow(0, 0, 5).isfinite().all().item<bool>());
    EXPECT_TRUE(g.dgate[5].isnan().item<bool>());
    EXPECT_TRUE(rms_norm(gate.reshape({1, 6}), up, 1e-5).y.isnan().all().item<bool>());
  }
}

TEST(Swiglu, NaiveGradientsEqualNumericalDifferentiation) {
  const at::Tensor gate = random({11}, 1), up = random({11}, 2), dy = random({11}, 3);
  const SwigluGrads g = reference::swiglu_backward(dy, gate, up);
  const auto loss = [&](const at::Tensor& a, const at::Tensor& b) {
    return (reference::swiglu(a, b) * dy).sum().item<double>();
  };
  EXPECT_LE(
      distance(g.dgate, test::numerical_gradient(gate, [&](const at::Tensor& t) { return loss(t, up); })),
      1e-8);
  EXPECT_LE(distance(g.dup, test::numerical_gradient(up, [&](const at::Tensor& t) { return loss(gate, t); })),
            1e-8);
}

at::Tensor make_labels(int64_t n, int64_t v, bool gaps) {
  std::vector<int64_t> labels(n);
  for (int64_t i = 0; i < n; ++i) labels[i] = gaps && i % 3 == 1 ? -100 : (i * 7919 + 13) % v;
  return at::tensor(labels, at::kLong);
}

TEST_P(VectorTier, LinearCrossEntropyEqualsNaive) {
  for (const at::ScalarType dtype : kTypes) {
    for (const auto& [n, c, v] :
         {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {5, 7, 3}, {37, 64, 131}, {50, 96, 5000}}) {
      for (const int64_t tile_bytes : {int64_t{1}, int64_t{100'000}, int64_t{0}}) {
        const bool gaps = n == 37;
        SCOPED_TRACE(ithaca::str(dtype, " N ", n, " C ", c, " V ", v, " tile ", tile_bytes));
        const Rounded h = input({n, c}, 1, dtype);
        const at::Tensor weight = (random({v, c}, 2) * 0.2).to(dtype), labels = make_labels(n, v, gaps);
        const at::Tensor start = random({v, c}, 3, opmath(dtype)), got_dw = start.clone(),
                         want_dw = start.to(at::kDouble);
        const LinearCrossEntropyOutput got =
            linear_cross_entropy_with_grad(h.given, weight, labels, got_dw, tile_bytes);
        const LinearCrossEntropyOutput want =
            reference::linear_cross_entropy_with_grad(h.exact, weight.to(at::kDouble), labels, want_dw);
        EXPECT_EQ(got.loss.scalar_type(), opmath(dtype));
        EXPECT_EQ(got.dhidden.scalar_type(), dtype);
        if (dtype != at::kBFloat16) {
          const double t = dtype == at::kDouble ? 1e-12 : 1e-5;
          EXPECT_LE(distance(got.loss, want.loss), t * std::max(1.0, want.loss.item<double>()));
          EXPECT_LE(distance(got.dhidden, want.dhidden), t);
          EXPECT_LE(distance(got_dw, want_dw), t);
        } else {
          // Logits rounded to bf16 (2^-9 of their size, here about 2) move a probability by as much; dlogits
          // and dhidden are rounded once each.
          EXPECT_NEAR(got.loss.item<double>(), want.loss.item<double>(), 2e-3 * n);
          if (v > 1) {
            EXPECT_LE(test::relative_rms(got.dhidden, want.dhidden), 6e-3);
          }
          EXPECT_LE(test::relative_rms(got_dw, want_dw), 2e-3);
        }
        EXPECT_TRUE(test::same_bits(got.loss, linear_cross_entropy(h.given, weight, labels, tile_bytes)));
        if (gaps) {
          EXPECT_EQ(got.dhidden[1].abs().max().item<double>(), 0);
        }
      }
    }
  }
}

// Remembers the largest tensor made while it stands in.
class AllocationWatch final : public c10::Allocator {
 public:
  AllocationWatch() { c10::SetCPUAllocator(this, 1); }
  ~AllocationWatch() override { c10::SetCPUAllocator(inner_, 1); }
  at::DataPtr allocate(size_t bytes) override {
    largest_ = std::max(largest_, static_cast<int64_t>(bytes));
    return inner_->allocate(bytes);
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
  int64_t largest() const { return largest_; }

 private:
  c10::Allocator* inner_ = c10::GetCPUAllocator();
  int64_t largest_ = 0;
};

// dweight is added to block by block: nothing of its size is made beside it.
TEST(LinearCrossEntropy, NoTemporaryOfTheWeightsSize) {
  const int64_t n = 16, c = 64, v = 100'000, weight_bytes = v * c * 4;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor h = random({n, c}, 1, dtype), weight = at::zeros({v, c}, dtype),
                     labels = make_labels(n, v, false), dw = at::zeros({v, c}, at::kFloat);
    const AllocationWatch watch;
    linear_cross_entropy_with_grad(h, weight, labels, dw);
    EXPECT_GE(watch.largest(), n * v * dw.element_size() / 2) << "the logits at least";
    EXPECT_LE(watch.largest(), weight_bytes * 2 / 5);
  }
}

TEST(LinearCrossEntropy, TilesGrowWithTheWeight) {
  const auto meta = [](int64_t v, int64_t c, at::ScalarType dtype) {
    return at::empty({v, c}, at::TensorOptions().dtype(dtype).device(at::kMeta));
  };
  constexpr int64_t kMegabyte = 1 << 20;
  EXPECT_EQ(logits_tile_bytes(meta(49152, 576, at::kBFloat16), true), 32 * kMegabyte);
  EXPECT_EQ(logits_tile_bytes(meta(131072, 4096, at::kBFloat16), true), 256 * kMegabyte);  // 1,024 rows
  EXPECT_EQ(logits_tile_bytes(meta(131072, 4096, at::kFloat), true), 256 * kMegabyte);
  EXPECT_EQ(logits_tile_bytes(meta(131072, 4096, at::kBFloat16), false), 32 * kMegabyte);
}

// The float16 path is ATen's operators, the one that CUDA runs.
TEST(LinearCrossEntropy, AtenPathEqualsNaive) {
  const at::Tensor h = random({21, 32}, 1, at::kHalf), weight = (random({77, 32}, 2) * 0.2).to(at::kHalf),
                   labels = make_labels(21, 77, true);
  const at::Tensor got_dw = at::zeros({77, 32}, at::kFloat), want_dw = at::zeros({77, 32}, at::kDouble);
  const LinearCrossEntropyOutput got = linear_cross_entropy_with_grad(h, weight, labels, got_dw, 77 * 2 * 4);
  const LinearCrossEntropyOutput want =
      reference::linear_cross_entropy_with_grad(h.to(at::kDouble), weight.to(at::kDouble), labels, want_dw);
  EXPECT_LE(distance(got.loss, want.loss), 1e-3 * want.loss.item<double>());
  EXPECT_LE(test::relative_rms(got.dhidden, want.dhidden), 2e-3);
  EXPECT_LE(test::relative_rms(got_dw, want_dw), 2e-3);
}

TEST(LinearCrossEntropy, WithoutLabelsNothingHappens) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor h = at::full({4, 8}, nan, at::kFloat), weight = random({9, 8}, 2, at::kFloat),
                   dw = at::zeros({9, 8}, at::kFloat);
  const LinearCrossEntropyOutput got =
      linear_cross_entropy_with_grad(h, weight, at::full({4}, -100, at::kLong), dw);
  EXPECT_EQ(got.loss.item<double>(), 0);
  EXPECT_EQ(got.dhidden.abs().max().item<double>() + dw.abs().max().item<double>(), 0);
  const LinearCrossEntropyOutput empty =
      linear_cross_entropy_with_grad(h.narrow(0, 0, 0), weight, at::full({0}, 0, at::kLong), dw);
  EXPECT_EQ(empty.dhidden.numel(), 0);
  // NaN in an unlabelled row stays there; in a labelled row it shows.
  at::Tensor mixed = random({4, 8}, 1, at::kFloat);
  mixed[2].fill_(nan);
  const at::Tensor labels = at::tensor(std::vector<int64_t>{1, 8, -100, 3}, at::kLong);
  EXPECT_TRUE(linear_cross_entropy(mixed, weight, labels).isfinite().item<bool>());
  mixed[3].fill_(nan);
  EXPECT_TRUE(linear_cross_entropy(mixed, weight, labels).isnan().item<bool>());
}

TEST(LinearCrossEntropy, NaiveGradientsEqualNumericalDifferentiation) {
  const at::Tensor h = random({4, 3}, 1), weight = random({5, 3}, 2), labels = make_labels(4, 5, true),
                   dw = at::zeros({5, 3}, at::kDouble);
  const at::Tensor dh = reference::linear_cross_entropy_with_grad(h, weight, labels, dw).dhidden;
  const auto loss = [&](const at::Tensor& a, const at::Tensor& b) {
    return reference::linear_cross_entropy(a, b, labels).item<double>();
  };
  EXPECT_LE(distance(dh, test::numerical_gradient(h, [&](const at::Tensor& t) { return loss(t, weight); })),
            1e-8);
  EXPECT_LE(distance(dw, test::numerical_gradient(weight, [&](const at::Tensor& t) { return loss(h, t); })),
            1e-8);
}

TEST(Ops, EmptyTensors) {
  const at::Tensor none = at::zeros({0, 8}, at::kFloat), weight = random({8}, 1, at::kFloat);
  const RmsNormOutput f = rms_norm(none, weight, 1e-5);
  EXPECT_EQ(f.y.sizes(), none.sizes());
  EXPECT_EQ(rms_norm_backward(none, none, weight, f.rstd).dweight.abs().max().item<double>(), 0);
  EXPECT_EQ(swiglu(none, none).sizes(), none.sizes());
  EXPECT_EQ(rotary(at::zeros({0, 3, 2, 8}, at::kFloat), at::zeros({3, 4}, at::kFloat),
                   at::zeros({3, 4}, at::kFloat))
                .numel(),
            0);
}

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(Ops, BadInputIsNamed) {
  const at::Tensor x = random({4, 8}, 1, at::kFloat), w = random({8}, 2, at::kFloat);
  EXPECT_THAT(message_of([&] { rms_norm(x, w.narrow(0, 0, 7), 1e-5); }),
              HasSubstr("weight [7] for x [4, 8]"));
  EXPECT_THAT(message_of([&] { rms_norm(x, w.to(at::kDouble), 1e-5); }),
              HasSubstr("weight is Double on cpu, expected Float"));
  EXPECT_THAT(message_of([&] { rms_norm(x.t(), w, 1e-5); }), HasSubstr("x must be contiguous"));
  EXPECT_THAT(message_of([&] { rms_norm_backward(x, x, w, at::zeros({3}, at::kFloat)); }),
              HasSubstr("expected [4] in opmath"));
  EXPECT_THAT(message_of([&] { swiglu(x, x.narrow(0, 0, 2)); }), HasSubstr("up [2, 8] for gate [4, 8]"));
  const at::Tensor heads = random({1, 4, 2, 7}, 1, at::kFloat);
  EXPECT_THAT(message_of([&] { rotary(heads, w, w); }), HasSubstr("even D"));
  EXPECT_THAT(message_of([&] {
                rotary(random({1, 4, 2, 6}, 1, at::kFloat), w, w);
              }),
              HasSubstr("cos [8] for x [1, 4, 2, 6]"));
  const at::Tensor labels = at::tensor(std::vector<int64_t>{0, 1, 2, 8}, at::kLong),
                   head = random({8, 8}, 4, at::kFloat);
  EXPECT_THAT(message_of([&] { linear_cross_entropy(x, head, labels); }),
              HasSubstr("label 8 is outside the vocabulary of 8"));
  EXPECT_THAT(message_of([&] { linear_cross_entropy(x, head, labels.narrow(0, 0, 3)); }),
              HasSubstr("labels [3]"));
  EXPECT_THAT(message_of([&] {
                linear_cross_entropy_with_grad(x, head, labels.clamp_max(7), at::zeros({8, 7}, at::kFloat));
              }),
              HasSubstr("dweight_accumulator [8, 7]"));
}

}  // namespace
}  // namespace ithaca
