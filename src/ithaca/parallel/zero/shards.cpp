#include "ithaca/parallel/zero/shards.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/comm/communicator.h"
#include "ithaca/comm/cost.h"
#include "ithaca/optim/clip.h"
#include "ithaca/parallel/memory/pages.h"

namespace ithaca {
namespace {

// Shares are aligned to 64 bytes of every type in use.
constexpr int64_t kShareAlignment = 64;

}  // namespace

ParameterShards::ParameterShards(const ParameterList& parameters, Communicator& group, bool return_gradients)
    : group_(group), return_gradients_(return_gradients) {
  const int64_t multiple = kShareAlignment * group.size();
  for (Parameter* parameter : parameters)
    if (parameter->requires_grad) parameters_.push_back(parameter);
  starts_ = flat_layout(parameters_, multiple).starts;
  values_ = flatten_values(parameters_, multiple);
  gradients_ = allocate_gradients(parameters_, multiple);
  use_huge_pages(gradients_);
  clear_gradients();
  share_ = values_.numel() / group.size();
}

ParameterShards::Piece ParameterShards::piece(std::size_t parameter, int rank) const {
  const int64_t start = starts_[parameter], end = start + parameters_[parameter]->value.numel();
  const int64_t first = std::max(start, rank * share_), last = std::min(end, (rank + 1) * share_);
  return {first - start, std::max<int64_t>(0, last - first)};
}

at::Tensor ParameterShards::own(const at::Tensor& flat) const {
  return flat.narrow(0, group_.rank() * share_, share_);
}

std::vector<OptimizerEntry> ParameterShards::entries() const {
  std::vector<OptimizerEntry> entries;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Piece mine = piece(i, group_.rank());
    if (mine.count == 0) continue;
    const auto cut = [&](const at::Tensor& flat) {
      return flat.narrow(0, starts_[i] + mine.begin, mine.count);
    };
    entries.push_back(
        {parameters_[i]->name, cut(values_), cut(gradients_), parameters_[i]->value.dim() >= 2});
  }
  return entries;
}

void ParameterShards::reduce_gradients() {
  at::Tensor part = own(gradients_);
  group_.reduce_scatter(part, gradients_);
}

double ParameterShards::sum_of_squares() const {
  return ithaca::sum_of_squares(own(gradients_));
}

void ParameterShards::scale_gradients(double factor) {
  own(gradients_).mul_(factor);
}

void ParameterShards::gather_values() {
  const c10::NoGradGuard no_grad;
  group_.all_gather(values_, own(values_));
}

void ParameterShards::clear_gradients() {
  if (!return_gradients_) {
    gradients_.zero_();
    return;
  }
  zero_pages(gradients_);
  for (Parameter* parameter : parameters_) parameter->grad_unused = gradients_.is_cpu();
}

int64_t ParameterShards::step_bytes() const {
  const std::vector<int64_t> shares(static_cast<std::size_t>(group_.size()), share_);
  const auto bytes = [](const at::Tensor& t) { return static_cast<int64_t>(t.element_size()); };
  return reduce_scatter_cost(shares, group_.rank(), bytes(gradients_)).bytes +
         all_gather_cost(shares, group_.rank(), bytes(values_)).bytes;
}

std::vector<StateSlot> ParameterShards::state_slots(const Optimizer& optimizer) const {
  std::vector<StateSlot> slots;
  for (const auto& [kind, dtype] : optimizer.state_kinds(values_.scalar_type())) {
    std::size_t entry = 0;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const Piece mine = piece(i, group_.rank());
      slots.push_back({kind + "." + parameters_[i]->name, parameters_[i]->value.sizes().vec(), dtype,
                       mine.begin, mine.count > 0 ? optimizer.state(kind, entry++) : at::Tensor()});
    }
  }
  return slots;
}

void ParameterShards::gather_state(const std::vector<StateSlot>& slots,
                                   const std::function<void(const WholeSlot&)>& use) const {
  // Slots are kinds x parameters: each has its own tag, so that rank 0 may take them in any order.
  ITHACA_CHECK(slots.size() % parameters_.size() == 0 && slots.size() < kMaxTag, slots.size(), " slots of ",
               parameters_.size(), " parameters");
  if (group_.rank() != 0) {
    std::vector<WorkPtr> sent;
    for (std::size_t i = 0; i < slots.size(); ++i)
      if (slots[i].part.defined()) sent.push_back(group_.async_send(slots[i].part, 0, static_cast<int>(i)));
    for (const WorkPtr& work : sent) work->wait();
    return;
  }
  use([&](std::size_t i) {
    const std::size_t parameter = i % parameters_.size();
    at::Tensor whole =
        at::empty({parameters_[parameter]->value.numel()}, gradients_.options().dtype(slots[i].dtype));
    for (int rank = 0; rank < group_.size(); ++rank) {
      const Piece there = piece(parameter, rank);
      if (there.count == 0) continue;
      at::Tensor place = whole.narrow(0, there.begin, there.count);
      if (rank == 0) {
        place.copy_(slots[i].part);
      } else {
        group_.recv(place, rank, static_cast<int>(i));
      }
    }
    return whole.view(slots[i].sizes);
  });
}

}  // namespace ithaca
