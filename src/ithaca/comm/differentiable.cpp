#include "ithaca/comm/differentiable.h"

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/base/error.h"
#include "ithaca/comm/communicator.h"
#include "ithaca/comm/cost.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Counts = std::vector<int64_t>;

// `like` with another number of rows.
at::Tensor empty_rows(const at::Tensor& like, int64_t rows) {
  Counts sizes = like.sizes().vec();
  sizes[0] = rows;
  return at::empty(sizes, like.options());
}

// A graph node keeps plain values only, so the group travels as its address; `group` outlives the graph by
// contract.
int64_t address_of(Communicator& group) {
  return reinterpret_cast<int64_t>(&group);
}
Communicator& group_of(AutogradContext* context) {
  return *reinterpret_cast<Communicator*>(context->saved_data["group"].toInt());
}

at::Tensor run_all_to_all(const at::Tensor& input, Communicator& group, const Counts& out_counts,
                          const Counts& in_counts) {
  at::Tensor out = empty_rows(input, sum_of(out_counts));
  group.all_to_all(out, input.contiguous(), out_counts, in_counts);
  return out;
}

at::Tensor run_all_gather(const at::Tensor& input, Communicator& group, const Counts& counts) {
  at::Tensor out = empty_rows(input, sum_of(counts));
  group.all_gather(out, input.contiguous(), counts);
  return out;
}

at::Tensor run_reduce_scatter(const at::Tensor& input, Communicator& group, const Counts& counts) {
  at::Tensor out = empty_rows(input, counts.at(static_cast<std::size_t>(group.rank())));
  group.reduce_scatter(out, input.contiguous(), counts);
  return out;
}

struct AllToAll : torch::autograd::Function<AllToAll> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, int64_t group,
                            const Counts& out_counts, const Counts& in_counts) {
    context->saved_data["group"] = group;
    context->saved_data["out_counts"] = out_counts;
    context->saved_data["in_counts"] = in_counts;
    return run_all_to_all(input, group_of(context), out_counts, in_counts);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const Counts out_counts = context->saved_data["out_counts"].toIntVector(),
                 in_counts = context->saved_data["in_counts"].toIntVector();
    return {run_all_to_all(grads[0], group_of(context), in_counts, out_counts), {}, {}, {}};
  }
};

struct AllGather : torch::autograd::Function<AllGather> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, int64_t group,
                            const Counts& counts) {
    context->saved_data["group"] = group;
    context->saved_data["counts"] = counts;
    return run_all_gather(input, group_of(context), counts);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    return {
        run_reduce_scatter(grads[0], group_of(context), context->saved_data["counts"].toIntVector()), {}, {}};
  }
};

struct ReduceScatter : torch::autograd::Function<ReduceScatter> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, int64_t group,
                            const Counts& counts) {
    context->saved_data["group"] = group;
    context->saved_data["counts"] = counts;
    return run_reduce_scatter(input, group_of(context), counts);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    return {run_all_gather(grads[0], group_of(context), context->saved_data["counts"].toIntVector()), {}, {}};
  }
};

}  // namespace

at::Tensor all_to_all(const at::Tensor& input, Communicator& group, const Counts& out_counts,
                      const Counts& in_counts) {
  if (group.size() == 1) return input;
  return AllToAll::apply(input, address_of(group), out_counts, in_counts);
}

at::Tensor all_gather(const at::Tensor& input, Communicator& group, const Counts& counts) {
  if (group.size() == 1) return input;
  return AllGather::apply(input, address_of(group),
                          counts.empty() ? Counts(group.ranks().size(), input.size(0)) : counts);
}

at::Tensor reduce_scatter(const at::Tensor& input, Communicator& group, const Counts& counts) {
  if (group.size() == 1) return input;
  ITHACA_CHECK(!counts.empty() || input.size(0) % group.size() == 0, input.size(0), " rows over ",
               group.size(), " ranks: give counts");
  return ReduceScatter::apply(
      input, address_of(group),
      counts.empty() ? Counts(group.ranks().size(), input.size(0) / group.size()) : counts);
}

}  // namespace ithaca
