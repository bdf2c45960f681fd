// Collectives as autograd functions, each with its adjoint. `group` must outlive the graph.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace ithaca {

class Communicator;

// Forward all_to_all on dim 0; backward the all_to_all with the counts exchanged.
at::Tensor all_to_all(const at::Tensor& input, Communicator& group, const std::vector<int64_t>& out_counts,
                      const std::vector<int64_t>& in_counts);
// Forward all_gather on dim 0; backward reduce_scatter (sum).
at::Tensor all_gather(const at::Tensor& input, Communicator& group, const std::vector<int64_t>& counts = {});
// Forward reduce_scatter (sum) on dim 0; backward all_gather.
at::Tensor reduce_scatter(const at::Tensor& input, Communicator& group,
                          const std::vector<int64_t>& counts = {});

}  // namespace ithaca
