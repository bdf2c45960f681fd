// Which samples step n sees. Pure arithmetic on (seed, step): the same under every layout with the same
// global batch, and a resumed run needs no state.
//
// The permutation of an epoch: std::mt19937_64 (whose output the C++ standard fixes) seeded with splitmix64
// of (seed, epoch), Fisher-Yates from the last element down, indices bounded without bias by rejection.
// Standard-library shuffles and distributions differ between libraries.
#pragma once
#include <cstdint>
#include <vector>

namespace ithaca {

struct SamplerOptions {
  int64_t num_samples = 0;
  int64_t global_batch = 1;  // samples a step, over all replicas and micro-batches
  uint64_t seed = 42;
  bool shuffle = true;  // a new permutation each epoch; false: 0, 1, 2, ... every epoch
};

// Order of the samples in an epoch (from 0): a permutation of 0 .. num_samples - 1.
std::vector<int64_t> epoch_order(const SamplerOptions& options, int64_t epoch);

// Not for several threads at once (it keeps the order of the epoch at hand); every rank has its own.
class Sampler {
 public:
  explicit Sampler(
      const SamplerOptions& options);  // UserError when there are no samples or global_batch is below 1

  // ceil(num_samples / global_batch). Every sample is seen once an epoch: an epoch's last step takes what is
  // left, which may be less than global_batch, and is not filled up from the next epoch.
  int64_t steps_per_epoch() const;
  // Samples of step n (from 0; epoch n / steps_per_epoch), in order; fewer than global_batch only at an
  // epoch's end, never none.
  std::vector<int64_t> step(int64_t n) const;
  // The part of step n for one replica and micro-batch: micro-batch m of replica d of D takes samples [(m * D
  // + d) * b, ... + b) of the step, b = global_batch / (D * M), which must divide. At an epoch's end a part
  // may be short or empty: that replica still takes part.
  std::vector<int64_t> micro_batch(int64_t n, int64_t replica, int64_t replicas, int64_t micro,
                                   int64_t micros) const;

 private:
  const std::vector<int64_t>& order(int64_t epoch) const;

  SamplerOptions options_;
  mutable int64_t epoch_ = -1;
  mutable std::vector<int64_t> order_;  // of epoch_
};

}  // namespace ithaca
