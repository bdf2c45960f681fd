#include "ithaca/kernels/matmul.h"

#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using LinearPointwise = at::Tensor(const at::Tensor& input, const at::Tensor& weight,
                                   const std::optional<at::Tensor>& bias, std::string_view attr,
                                   c10::List<std::optional<at::Scalar>> scalars,
                                   std::optional<std::string_view> algorithm);

// Below this a product takes less time than oneDNN's look-up of its plan.
constexpr int64_t kSmallProduct = 1 << 20;

// libtorch keeps oneDNN's dense products behind this operator (input [..., J], weight [M, J]).
const c10::TypedOperatorHandle<LinearPointwise>* onednn_product() {
  static const auto handle = []() -> std::optional<c10::TypedOperatorHandle<LinearPointwise>> {
    const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!found) return std::nullopt;
    return found->typed<LinearPointwise>();
  }();
  return handle ? &*handle : nullptr;
}

bool takes_onednn(const at::Tensor& left, const at::Tensor& right) {
  return left.is_cpu() && left.scalar_type() == at::kFloat && right.scalar_type() == at::kFloat &&
         left.numel() * right.size(1) >= kSmallProduct && onednn_product() != nullptr;
}

at::Tensor onednn(const at::Tensor& left, const at::Tensor& right) {
  return onednn_product()->call(left, right.t(), std::nullopt, "none", c10::List<std::optional<at::Scalar>>(),
                                "");
}

}  // namespace

at::Tensor matmul(const at::Tensor& left, const at::Tensor& right) {
  ITHACA_CHECK(left.size(-1) == right.size(0), "left ", left.sizes(), ", right ", right.sizes());
  if (takes_onednn(left, right)) return onednn(left, right);
  std::vector<int64_t> shape = left.sizes().vec();
  shape.back() = right.size(1);
  // Not a view of a 2-D result: a view made without grad mode could not be changed in place by whoever
  // receives it.
  at::Tensor out = at::empty(shape, left.options());
  at::Tensor rows = out.view({-1, right.size(1)});
  at::mm_out(rows, left.reshape({-1, left.size(-1)}), right);
  return out;
}

at::Tensor matmul_in(const at::Tensor& buffer, const at::Tensor& left, const at::Tensor& right) {
  if (takes_onednn(left, right)) return onednn(left, right);
  at::Tensor out = buffer;
  at::mm_out(out, left, right);
  return out;
}

int64_t rows_of_a_block(const at::Tensor& like, int64_t columns) {
  constexpr int64_t kBlockBytes = int64_t{8} << 20, kLeastRows = 256;
  return std::max(kLeastRows, kBlockBytes / std::max<int64_t>(1, columns * like.element_size()));
}

void add_matmul(const at::Tensor& sum, const at::Tensor& left, const at::Tensor& right) {
  if (takes_onednn(left, right)) {
    const int64_t rows = sum.size(0), block = rows_of_a_block(sum, sum.size(1));
    for (int64_t begin = 0; begin < rows; begin += block) {
      const int64_t n = std::min(block, rows - begin);
      sum.narrow(0, begin, n).add_(onednn(left.narrow(0, begin, n), right));
    }
  } else {
    sum.addmm_(left, right);
  }
}

}  // namespace ithaca
