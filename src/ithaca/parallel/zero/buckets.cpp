#include "ithaca/parallel/zero/buckets.h"

#include <algorithm>

#include "ithaca/comm/communicator.h"
#include "ithaca/comm/cost.h"

namespace ithaca {
namespace {

int64_t bucket_elements(int64_t bucket_bytes, int64_t element_bytes) {
  return std::max<int64_t>(1, bucket_bytes / element_bytes);
}

}  // namespace

void all_reduce_gradients(at::Tensor& flat, Communicator& group, int64_t bucket_bytes) {
  if (group.size() == 1) return;
  const int64_t bucket = bucket_elements(bucket_bytes, flat.element_size());
  for (int64_t begin = 0; begin < flat.numel(); begin += bucket) {
    at::Tensor slice = flat.narrow(0, begin, std::min(bucket, flat.numel() - begin));
    group.all_reduce(slice);
  }
}

int64_t all_reduce_gradients_bytes(int64_t elements, int64_t element_bytes, int n, int r,
                                   int64_t bucket_bytes) {
  const int64_t bucket = bucket_elements(bucket_bytes, element_bytes);
  int64_t bytes = 0;
  for (int64_t begin = 0; begin < elements; begin += bucket)
    bytes += all_reduce_cost(n, r, std::min(bucket, elements - begin), element_bytes).bytes;
  return bytes;
}

}  // namespace ithaca
