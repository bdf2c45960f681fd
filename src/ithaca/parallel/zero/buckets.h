// Gradient reduction over the sequence-data group, a few MB a call, in place on the flat buffer of
// allocate_gradients.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ithaca {

class Communicator;

inline constexpr int64_t kBucketBytes = int64_t{16} << 20;

// flat (1-D, contiguous) = sum over the group, on every rank the same bits.
void all_reduce_gradients(at::Tensor& flat, Communicator& group, int64_t bucket_bytes = kBucketBytes);

// Bytes that rank r of n sends for it: about 2 (n - 1) / n of the buffer.
int64_t all_reduce_gradients_bytes(int64_t elements, int64_t element_bytes, int n, int r,
                                   int64_t bucket_bytes = kBucketBytes);

}  // namespace ithaca
