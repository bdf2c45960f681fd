#include "ithaca/parallel/sequence/distributed_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include "ithaca/comm/communicator.h"

namespace ithaca {

std::vector<int64_t> gather_row_counts(int64_t rows, Communicator& group) {
  const at::Tensor mine = at::full({1}, rows, at::kLong);
  at::Tensor all = at::empty({group.size()}, at::kLong);
  group.all_gather(all, mine);
  const int64_t* data = all.const_data_ptr<int64_t>();
  return {data, data + group.size()};
}

}  // namespace ithaca
