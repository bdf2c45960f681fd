#include "ithaca/parallel/sequence/row_block.h"

#include <ATen/ops/empty.h>

namespace ithaca {

RowBlock::RowBlock(const BatchPlan& plan, const std::vector<RowSet>& rows, const at::Tensor& like,
                   at::ScalarType dtype)
    : rows_(&rows) {
  const int64_t heads = like.size(2), head_dim = like.size(3);
  std::vector<std::vector<int64_t>> shapes;
  std::vector<int64_t> sizes;
  int64_t total = 0;
  for (std::size_t s = 0; s < rows.size(); ++s) {
    shapes.push_back({2, plan.slices[s].count, count_of(rows[s]), heads, head_dim});
    sizes.push_back(2 * plan.slices[s].count * shapes.back()[2] * heads * head_dim);
    total += sizes.back();
  }
  buffer_ = at::empty({total}, like.options().dtype(dtype));
  int64_t offset = 0;
  for (std::size_t s = 0; s < rows.size(); ++s) {
    views_.push_back(buffer_.narrow(0, offset, sizes[s]).view(shapes[s]));
    offset += sizes[s];
  }
}

void RowBlock::copy_from(const BatchPlan& plan, int ring_rank, const at::Tensor& k, const at::Tensor& v) {
  for (std::size_t s = 0; s < views_.size(); ++s) {
    const BatchSlice& slice = plan.slices[s];
    const at::Tensor from_k = k.narrow(0, slice.begin, slice.count),
                     from_v = v.narrow(0, slice.begin, slice.count);
    for_each_common(rows()[s], slice.rows[ring_rank], [&](int64_t to, int64_t from, int64_t count) {
      first(s).narrow(1, to, count).copy_(from_k.narrow(1, from, count));
      second(s).narrow(1, to, count).copy_(from_v.narrow(1, from, count));
    });
  }
}

void RowBlock::copy_from(const RowBlock& other) {
  for (std::size_t s = 0; s < views_.size(); ++s)
    for_each_common(rows()[s], other.rows()[s], [&](int64_t to, int64_t from, int64_t count) {
      views_[s].narrow(2, to, count).copy_(other.views_[s].narrow(2, from, count));
    });
}

void RowBlock::add_from(const RowBlock& other) {
  for (std::size_t s = 0; s < views_.size(); ++s)
    for_each_common(rows()[s], other.rows()[s], [&](int64_t to, int64_t from, int64_t count) {
      views_[s].narrow(2, to, count).add_(other.views_[s].narrow(2, from, count));
    });
}

void RowBlock::add_to(const BatchPlan& plan, int ring_rank, at::Tensor& dk, at::Tensor& dv) const {
  for (std::size_t s = 0; s < views_.size(); ++s) {
    const BatchSlice& slice = plan.slices[s];
    const at::Tensor to_k = dk.narrow(0, slice.begin, slice.count),
                     to_v = dv.narrow(0, slice.begin, slice.count);
    for_each_common(slice.rows[ring_rank], rows()[s], [&](int64_t to, int64_t from, int64_t count) {
      to_k.narrow(1, to, count).add_(first(s).narrow(1, from, count));
      to_v.narrow(1, to, count).add_(second(s).narrow(1, from, count));
    });
  }
}

}  // namespace ithaca
