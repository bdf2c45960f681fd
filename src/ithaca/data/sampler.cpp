#include "ithaca/data/sampler.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// Steele, Lea and Flood (2014): every bit of the input moves every bit of the output.
uint64_t splitmix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Uniform in [0, n): draws in the incomplete last stretch of n values are thrown away.
uint64_t bounded(std::mt19937_64& generator, uint64_t n) {
  const uint64_t limit = std::numeric_limits<uint64_t>::max() - std::numeric_limits<uint64_t>::max() % n;
  uint64_t draw = generator();
  while (draw >= limit) draw = generator();
  return draw % n;
}

}  // namespace

std::vector<int64_t> epoch_order(const SamplerOptions& options, int64_t epoch) {
  std::vector<int64_t> order(static_cast<std::size_t>(options.num_samples));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (!options.shuffle) return order;
  std::mt19937_64 generator(splitmix64(splitmix64(options.seed) ^ static_cast<uint64_t>(epoch)));
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[bounded(generator, i)]);
  return order;
}

Sampler::Sampler(const SamplerOptions& options) : options_(options) {
  if (options.num_samples < 1) throw UserError("there are no samples to train on: the data set has no rows");
  if (options.global_batch < 1)
    throw UserError(
        str("the global batch is ", options.global_batch,
            " samples; per_device_train_batch_size and gradient_accumulation_steps must be at least 1"));
}

int64_t Sampler::steps_per_epoch() const {
  return options_.num_samples / options_.global_batch + (options_.num_samples % options_.global_batch != 0);
}

const std::vector<int64_t>& Sampler::order(int64_t epoch) const {
  if (epoch != epoch_) {
    order_ = epoch_order(options_, epoch);
    epoch_ = epoch;
  }
  return order_;
}

std::vector<int64_t> Sampler::step(int64_t n) const {
  ITHACA_CHECK(n >= 0, "step ", n);
  const auto& samples = order(n / steps_per_epoch());
  const int64_t begin = n % steps_per_epoch() * options_.global_batch;
  const int64_t end = std::min(begin + options_.global_batch, options_.num_samples);
  return {samples.begin() + begin, samples.begin() + end};
}

std::vector<int64_t> Sampler::micro_batch(int64_t n, int64_t replica, int64_t replicas, int64_t micro,
                                          int64_t micros) const {
  ITHACA_CHECK(
      replicas > 0 && replica >= 0 && replica < replicas && micros > 0 && micro >= 0 && micro < micros,
      "replica ", replica, " of ", replicas, ", micro-batch ", micro, " of ", micros);
  ITHACA_CHECK(options_.global_batch % (replicas * micros) == 0, "global batch ", options_.global_batch);
  const std::vector<int64_t> samples = step(n);
  const auto size = static_cast<int64_t>(samples.size());
  const int64_t part = options_.global_batch / (replicas * micros);
  const int64_t begin = std::min((micro * replicas + replica) * part, size);
  return {samples.begin() + begin, samples.begin() + std::min(begin + part, size)};
}

}  // namespace ithaca
