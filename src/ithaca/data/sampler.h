// Which samples step n sees. Pure arithmetic on (seed, step): the same under every layout with the same global batch, and a resumed run needs no state.
#pragma once
#include <cstdint>
#include <vector>

namespace ithaca {

struct SamplerOptions {
  int64_t num_samples = 0;
  int64_t global_batch = 1;  // samples a step, over all replicas and micro-batches
  uint64_t seed = 42;
  bool shuffle = true;       // a new permutation each epoch
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);  // UserError when there are no samples

  int64_t steps_per_epoch() const;  // ceil: the last step of an epoch takes what is left, and wraps for nothing
  // Samples of step n (from 0), in order; fewer than global_batch only at an epoch's end.
  std::vector<int64_t> step(int64_t n) const;
  // The part of step n for one replica and micro-batch: micro-batch m of replica d of D takes samples [(m * D + d) * b, ... + b) of the step, b =
  // global_batch / (D * M). May be empty at an epoch's end: that replica still takes part.
  std::vector<int64_t> micro_batch(int64_t n, int64_t replica, int64_t replicas, int64_t micro, int64_t micros) const;

 private:
  SamplerOptions options_;
};

}  // namespace ithaca
