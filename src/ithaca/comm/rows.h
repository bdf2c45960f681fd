// Small arithmetic on rows of dim 0 and on counts of rows, shared by the backends.
#pragma once
#include <ATen/core/Tensor.h>

#include <ostream>
#include <vector>

namespace ithaca {

inline int64_t row_elements(const at::Tensor& tensor) {
  int64_t product = 1;
  for (int64_t dim = 1; dim < tensor.dim(); ++dim) product *= tensor.size(dim);
  return product;
}

inline int64_t row_bytes(const at::Tensor& tensor) {
  return row_elements(tensor) * static_cast<int64_t>(tensor.element_size());
}

inline int64_t rows_before(const std::vector<int64_t>& counts, std::size_t rank) {
  int64_t rows = 0;
  for (std::size_t i = 0; i < rank; ++i) rows += counts[i];
  return rows;
}

// Prints as [1, 2, 3]; built only when an error is worded.
struct Listed {
  const std::vector<int64_t>& values;
};
inline std::ostream& operator<<(std::ostream& out, const Listed& listed) {
  out << "[";
  for (std::size_t i = 0; i < listed.values.size(); ++i) out << (i ? ", " : "") << listed.values[i];
  return out << "]";
}

}  // namespace ithaca
