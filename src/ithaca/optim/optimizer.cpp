#include "ithaca/optim/optimizer.h"

#include <ATen/OpMathType.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/optim/master.h"

namespace ithaca {
namespace {

// Elements updated at a time: a joined master needs no more room than this.
constexpr int64_t kPiece = 1 << 18;

bool is_split(at::ScalarType value_type) {
  return value_type == at::kBFloat16;
}

at::Tensor piece(const at::Tensor& whole, int64_t begin, int64_t count) {
  return whole.detach().view({-1}).narrow(0, begin, count);
}

}  // namespace

Optimizer::Optimizer(const OptimizerOptions& options, std::vector<OptimizerEntry> entries)
    : options_(options), entries_(std::move(entries)) {
  const c10::NoGradGuard no_grad;
  for (const OptimizerEntry& entry : entries_) {
    const at::ScalarType type = entry.value.scalar_type(), acc = at::toOpMathType(type);
    ITHACA_CHECK((type == acc || is_split(type)) && entry.value.is_contiguous(), entry.name,
                 " must be contiguous, float32, float64 or bf16, not ", type);
    ITHACA_CHECK(
        entry.grad.defined() && entry.grad.sizes() == entry.value.sizes() && entry.grad.scalar_type() == acc,
        entry.name, " needs a gradient buffer of its shape in opmath");
    master_low_.push_back(is_split(type) ? at::zeros_like(entry.value, at::kShort) : at::Tensor());
    if (options_.kind == OptimizerOptions::Kind::kSgd) continue;
    exp_avg_.push_back(at::zeros_like(entry.grad));
    exp_avg_sq_.push_back(at::zeros_like(entry.grad));
  }
}

void Optimizer::update(std::size_t entry, int64_t begin, at::Tensor master, const at::Tensor& steps,
                       double lr) {
  const auto cut = [&](const at::Tensor& whole) { return piece(whole, begin, master.numel()); };
  const double decay = entries_[entry].decay ? options_.weight_decay : 0.0;
  const at::Tensor grad = cut(entries_[entry].grad);
  if (options_.kind == OptimizerOptions::Kind::kSgd) {
    if (decay != 0) master.mul_(1 - lr * decay);
    master.add_(grad, -lr);
    return;
  }
  at::_fused_adamw_({master}, {grad}, {cut(exp_avg_[entry])}, {cut(exp_avg_sq_[entry])},
                    /*max_exp_avg_sqs=*/{}, {steps}, lr, options_.beta1, options_.beta2, decay, options_.eps,
                    /*amsgrad=*/false, /*maximize=*/false);
}

void Optimizer::step(double lr) {
  const c10::NoGradGuard no_grad;
  ++step_count_;
  if (entries_.empty()) return;
  const at::TensorOptions options = entries_.front().grad.options().dtype(at::kFloat);
  // The kernel reads the count of steps with this one in it.
  const at::Tensor steps = at::full({}, static_cast<double>(step_count_), options);
  at::Tensor joined;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const int64_t size = entries_[i].value.numel();
    for (int64_t begin = 0; begin < size; begin += kPiece) {
      const int64_t count = std::min(kPiece, size - begin);
      const at::Tensor value = piece(entries_[i].value, begin, count);
      if (!is_split(value.scalar_type())) {
        update(i, begin, value, steps, lr);
        continue;
      }
      if (!joined.defined()) joined = at::empty({kPiece}, options);
      const at::Tensor master = joined.narrow(0, 0, count), low = piece(master_low_[i], begin, count);
      join_master(value, low, master);
      update(i, begin, master, steps, lr);
      split_master(master, value, low);
    }
  }
}

std::vector<StateKind> Optimizer::state_kinds(at::ScalarType value_type) const {
  std::vector<StateKind> kinds;
  const at::ScalarType acc = at::toOpMathType(value_type);
  if (is_split(value_type)) kinds.push_back({"master_low", at::kShort});
  if (options_.kind == OptimizerOptions::Kind::kAdamW)
    kinds.insert(kinds.end(), {{"exp_avg", acc}, {"exp_avg_sq", acc}});
  return kinds;
}

const at::Tensor& Optimizer::state(const std::string& kind, std::size_t entry) const {
  const std::vector<at::Tensor>& tensors = kind == "master_low" ? master_low_
                                           : kind == "exp_avg"  ? exp_avg_
                                                                : exp_avg_sq_;
  return tensors.at(entry);
}

int64_t Optimizer::state_bytes() const {
  int64_t bytes = 0;
  if (entries_.empty()) return 0;
  for (const StateKind& kind : state_kinds(entries_.front().value.scalar_type()))
    for (std::size_t i = 0; i < entries_.size(); ++i)
      bytes += static_cast<int64_t>(state(kind.name, i).nbytes());
  return bytes;
}

}  // namespace ithaca
