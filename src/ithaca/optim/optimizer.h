// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on float32 masters, and plain SGD for tests. Local
// maths, unaware of shards.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ithaca {

struct OptimizerOptions {
  enum class Kind { kAdamW, kSgd };
  Kind kind = Kind::kAdamW;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
};

// One tensor as the optimizer sees it.
struct OptimizerEntry {
  std::string name;
  at::Tensor value;   // compute dtype; written after each step
  at::Tensor grad;    // opmath, read
  bool decay = true;  // weight decay applies (matrices; not norms and biases)
};

class Optimizer {
 public:
  // Masters are made from the values; where value is already in opmath it is its own master (no copy).
  Optimizer(const OptimizerOptions& options, std::vector<OptimizerEntry> entries);

  // One update with learning rate lr. Increments the step count.
  void step(double lr);

  int64_t step_count() const { return step_count_; }
  // Everything a resume needs: kinds ("master" where values are not their own masters, "exp_avg",
  // "exp_avg_sq"), each with one live tensor for each entry.
  // The kinds depend on the type of the values alone: the same on a rank that has no entry.
  std::vector<std::string> state_kinds(at::ScalarType value_type) const;
  const at::Tensor& state(const std::string& kind, std::size_t entry) const;
  void set_step_count(int64_t n) { step_count_ = n; }
  // Bytes of masters and moments.
  int64_t state_bytes() const;

 private:
  OptimizerOptions options_;
  std::vector<OptimizerEntry> entries_;
  std::vector<at::Tensor> master_, exp_avg_, exp_avg_sq_;  // by entry
  int64_t step_count_ = 0;
};

}  // namespace ithaca
