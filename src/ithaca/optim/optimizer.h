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
  at::Tensor value;   // contiguous; bf16, or its own opmath; written after each step
  at::Tensor grad;    // opmath, read
  bool decay = true;  // weight decay applies (matrices; not norms and biases)
};

struct StateKind {
  std::string name;
  at::ScalarType dtype;
};

class Optimizer {
 public:
  // Masters start as the values. A value in opmath is its own master; a bf16 value is half of it (master.h).
  Optimizer(const OptimizerOptions& options, std::vector<OptimizerEntry> entries);

  // One update with learning rate lr. Increments the step count.
  void step(double lr);

  int64_t step_count() const { return step_count_; }
  // Everything that a resume needs beside the values: kinds ("master_low" where values are bf16, "exp_avg",
  // "exp_avg_sq"), each with one live tensor of the entry's shape for each entry.
  // The kinds depend on the type of the values alone: the same on a rank that has no entry.
  std::vector<StateKind> state_kinds(at::ScalarType value_type) const;
  const at::Tensor& state(const std::string& kind, std::size_t entry) const;
  void set_step_count(int64_t n) { step_count_ = n; }
  // Bytes of masters, beside the values, and moments.
  int64_t state_bytes() const;

 private:
  // Elements [begin, begin + master.numel()) of an entry; `steps`: the count as the kernel wants it.
  void update(std::size_t entry, int64_t begin, at::Tensor master, const at::Tensor& steps, double lr);

  OptimizerOptions options_;
  std::vector<OptimizerEntry> entries_;
  std::vector<at::Tensor> master_low_, exp_avg_, exp_avg_sq_;  // by entry
  int64_t step_count_ = 0;
};

}  // namespace ithaca
