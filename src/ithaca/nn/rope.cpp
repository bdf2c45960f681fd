// Frequencies of rotary embedding. Sources: transformers 5.23, modeling_rope_utils; linear: Chen et al. 2023,
// arXiv 2306.15595; yarn: Peng et al. 2023, arXiv 2309.00071; llama3: the Llama 3.1 release. The same float32
// operators in the same order, so that angles agree at long positions too: one unit in the last place of a
// frequency is a hundredth of a radian at position 100,000.
#include "ithaca/nn/rope.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ithaca/base/error.h"
#include "ithaca/kernels/rotary.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Beyond, float32 has no two neighbouring positions apart.
constexpr int64_t kFloatPositions = int64_t{1} << 24;

struct Frequencies {
  at::Tensor inverse;    // [D/2] float32, radians a position
  double scaling = 1.0;  // of cos and sin
};

// 2j / D for pair j.
at::Tensor exponents(int64_t head_dim) {
  return at::arange(0, head_dim, 2, at::kFloat).div(static_cast<double>(head_dim));
}

at::Tensor default_frequencies(const RopeConfig& config, int64_t head_dim) {
  return at::pow(config.theta, exponents(head_dim)).reciprocal();
}

// NTK-aware: beyond the trained length the base grows with the length, so that the slowest pair still turns
// no further than in training.
at::Tensor dynamic_frequencies(const RopeConfig& config, int64_t head_dim, int64_t sequence_length) {
  const int64_t trained = config.original_max_position_embeddings;
  if (sequence_length <= trained) return default_frequencies(config, head_dim);
  const auto d = static_cast<double>(head_dim);
  const at::Tensor length = at::scalar_tensor(sequence_length, at::kLong);
  const at::Tensor growth =
      length.mul(config.factor).div(static_cast<double>(trained)).sub(config.factor - 1.0);
  return at::pow(growth.pow(d / (d - 2.0)).mul(config.theta), exponents(head_dim)).reciprocal();
}

// Wavelengths below the high bound stay, those above the low bound are stretched by factor, the ones between
// are blended.
at::Tensor llama3_frequencies(const RopeConfig& config, int64_t head_dim) {
  const at::Tensor plain = default_frequencies(config, head_dim);
  const auto trained = static_cast<double>(config.original_max_position_embeddings);
  const double longest = trained / config.low_freq_factor, shortest = trained / config.high_freq_factor;
  const at::Tensor wavelength = plain.reciprocal().mul(2.0 * std::numbers::pi);
  const at::Tensor stretched = at::where(wavelength.gt(longest), plain.div(config.factor), plain);
  const at::Tensor smooth = wavelength.reciprocal()
                                .mul(trained)
                                .sub(config.low_freq_factor)
                                .div(config.high_freq_factor - config.low_freq_factor);
  const at::Tensor blend = smooth.neg().add(1.0).mul(stretched).div(config.factor).add(smooth.mul(stretched));
  return at::where(at::logical_and(wavelength.ge(shortest), wavelength.le(longest)), blend, stretched);
}

double yarn_scaling(const RopeConfig& config) {
  if (config.attention_factor) return *config.attention_factor;
  const auto temperature = [&](double weight) {
    return config.factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(config.factor) + 1.0;
  };
  const double mscale = config.mscale.value_or(0.0), mscale_all_dim = config.mscale_all_dim.value_or(0.0);
  return mscale != 0.0 && mscale_all_dim != 0.0 ? temperature(mscale) / temperature(mscale_all_dim)
                                                : temperature(1.0);
}

// Pairs that turn often within the trained length keep their frequency, those that turn seldom are
// interpolated, with a ramp between.
at::Tensor yarn_frequencies(const RopeConfig& config, int64_t head_dim) {
  const auto d = static_cast<double>(head_dim);
  const auto pair_turning = [&](double turns) {
    const auto trained = static_cast<double>(config.original_max_position_embeddings);
    return d * std::log(trained / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(config.theta));
  };
  double low = pair_turning(config.beta_fast), high = pair_turning(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, d - 1.0);
  if (low == high) high += 0.001;
  const at::Tensor ramp = at::arange(head_dim / 2, at::kFloat).sub(low).div(high - low).clamp(0.0, 1.0);
  const at::Tensor keep = ramp.neg().add(1.0);
  const at::Tensor base = at::pow(config.theta, exponents(head_dim));
  return base.mul(config.factor).reciprocal().mul(keep.neg().add(1.0)).add(base.reciprocal().mul(keep));
}

Frequencies frequencies(const RopeConfig& config, int64_t head_dim, int64_t sequence_length) {
  switch (config.type) {
    case RopeConfig::Type::kDefault:
      return {default_frequencies(config, head_dim)};
    case RopeConfig::Type::kLinear:
      return {default_frequencies(config, head_dim).div(config.factor)};
    case RopeConfig::Type::kDynamic:
      return {dynamic_frequencies(config, head_dim, sequence_length)};
    case RopeConfig::Type::kLlama3:
      return {llama3_frequencies(config, head_dim)};
    case RopeConfig::Type::kYarn:
      return {yarn_frequencies(config, head_dim), yarn_scaling(config)};
  }
  ITHACA_CHECK(false, "unknown rope type");
}

struct RotaryFunction : torch::autograd::Function<RotaryFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    return rotary(x, cos, sin);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list tables = ctx->get_saved_variables();
    return {rotary(grads[0].contiguous(), tables[0], tables[1], /*inverse=*/true), at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

RopeTables rope_tables(const RopeConfig& config, int64_t head_dim, const at::Tensor& position_ids,
                       int64_t sequence_length, at::ScalarType dtype) {
  const Frequencies f = frequencies(config, head_dim, sequence_length);
  int64_t length = sequence_length;
  if (position_ids.numel() > 0) length = std::max(length, position_ids.max().item<int64_t>() + 1);
  const at::ScalarType exact = length <= kFloatPositions ? at::kFloat : at::kDouble;
  const at::Tensor angles =
      position_ids.to(exact).unsqueeze(-1).mul(f.inverse.to(position_ids.device(), exact));
  return {angles.cos().mul(f.scaling).to(dtype), angles.sin().mul(f.scaling).to(dtype)};
}

at::Tensor apply_rotary(const at::Tensor& x, const RopeTables& tables) {
  return RotaryFunction::apply(x, tables.cos, tables.sin);
}

}  // namespace ithaca
