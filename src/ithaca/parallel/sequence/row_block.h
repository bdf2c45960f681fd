// K and V, or dK and dV, of some rows of each batch row in one buffer, as they travel.
// B batch rows of a slice, n rows of the slice's set, K kv heads, D head size.
#pragma once
#include <ATen/core/Tensor.h>

#include "ithaca/parallel/sequence/batch_plan.h"

namespace ithaca {

class RowBlock {
 public:
  RowBlock() = default;
  // rows: by slice. `like` [B, S, K, D] gives heads, head size and device. Not initialised.
  RowBlock(const BatchPlan& plan, const std::vector<RowSet>& rows, const at::Tensor& like,
           at::ScalarType dtype);

  at::Tensor& buffer() { return buffer_; }
  const std::vector<RowSet>& rows() const { return *rows_; }
  at::Tensor first(std::size_t slice) const {
    return views_[slice].select(0, 0);
  }  // [B, n, K, D], contiguous
  at::Tensor second(std::size_t slice) const { return views_[slice].select(0, 1); }

  // Rows that both hold. k, v [B, S, K, D] hold `own` rows, by slice.
  void copy_from(const BatchPlan& plan, int ring_rank, const at::Tensor& k, const at::Tensor& v);
  void copy_from(const RowBlock& other);
  void add_from(const RowBlock& other);
  void add_to(const BatchPlan& plan, int ring_rank, at::Tensor& dk, at::Tensor& dv) const;

 private:
  at::Tensor buffer_;                          // flat
  const std::vector<RowSet>* rows_ = nullptr;  // of the plan
  std::vector<at::Tensor> views_;              // by slice: [2, B, n, K, D]
};

}  // namespace ithaca
