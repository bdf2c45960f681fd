#include "ithaca/optim/optimizer.h"

#include <ATen/OpMathType.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <array>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

bool own_master(at::ScalarType value_type) {
  return at::toOpMathType(value_type) != value_type;
}
bool own_master(const OptimizerEntry& entry) {
  return own_master(entry.value.scalar_type());
}

// Tensors of one call of the fused kernel, which has one weight decay for all.
struct Group {
  std::vector<at::Tensor> params, grads, exp_avgs, exp_avg_sqs, steps;
};

}  // namespace

Optimizer::Optimizer(const OptimizerOptions& options, std::vector<OptimizerEntry> entries)
    : options_(options), entries_(std::move(entries)) {
  const c10::NoGradGuard no_grad;
  for (const OptimizerEntry& entry : entries_) {
    const at::ScalarType acc = at::toOpMathType(entry.value.scalar_type());
    ITHACA_CHECK(
        entry.grad.defined() && entry.grad.sizes() == entry.value.sizes() && entry.grad.scalar_type() == acc,
        entry.name, " needs a gradient buffer of its shape in opmath");
    master_.push_back(own_master(entry) ? entry.value.to(acc) : entry.value.detach());
    if (options_.kind == OptimizerOptions::Kind::kSgd) continue;
    exp_avg_.push_back(at::zeros_like(master_.back()));
    exp_avg_sq_.push_back(at::zeros_like(master_.back()));
  }
}

void Optimizer::step(double lr) {
  const c10::NoGradGuard no_grad;
  ++step_count_;
  std::array<Group, 2> groups;  // without and with weight decay
  std::vector<at::Tensor> values, masters;
  for (size_t i = 0; i < entries_.size(); ++i) {
    Group& group = groups[entries_[i].decay];
    if (options_.kind == OptimizerOptions::Kind::kAdamW) {
      group.params.push_back(master_[i]);
      group.grads.push_back(entries_[i].grad);
      group.exp_avgs.push_back(exp_avg_[i]);
      group.exp_avg_sqs.push_back(exp_avg_sq_[i]);
      // The kernel reads the count of steps with this one in it.
      group.steps.push_back(
          at::full({}, static_cast<double>(step_count_), master_[i].options().dtype(at::kFloat)));
    } else {
      if (entries_[i].decay) master_[i].mul_(1 - lr * options_.weight_decay);
      master_[i].add_(entries_[i].grad, -lr);
    }
    if (own_master(entries_[i])) {
      values.push_back(entries_[i].value.detach());
      masters.push_back(master_[i]);
    }
  }
  for (size_t decay = 0; decay < groups.size(); ++decay) {
    Group& g = groups[decay];
    if (g.params.empty()) continue;
    at::_fused_adamw_(g.params, g.grads, g.exp_avgs, g.exp_avg_sqs, /*max_exp_avg_sqs=*/{}, g.steps, lr,
                      options_.beta1, options_.beta2, decay ? options_.weight_decay : 0.0, options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  if (!values.empty()) at::_foreach_copy_(values, masters);
}

std::vector<std::string> Optimizer::state_kinds(at::ScalarType value_type) const {
  std::vector<std::string> kinds;
  if (own_master(value_type)) kinds.push_back("master");
  if (options_.kind == OptimizerOptions::Kind::kAdamW) kinds.insert(kinds.end(), {"exp_avg", "exp_avg_sq"});
  return kinds;
}

const at::Tensor& Optimizer::state(const std::string& kind, std::size_t entry) const {
  const std::vector<at::Tensor>& tensors = kind == "master"    ? master_
                                           : kind == "exp_avg" ? exp_avg_
                                                               : exp_avg_sq_;
  return tensors.at(entry);
}

int64_t Optimizer::state_bytes() const {
  int64_t bytes = 0;
  if (entries_.empty()) return 0;
  for (const std::string& kind : state_kinds(entries_.front().value.scalar_type()))
    for (std::size_t i = 0; i < entries_.size(); ++i) bytes += static_cast<int64_t>(state(kind, i).nbytes());
  return bytes;
}

}  // namespace ithaca
