// What a verb puts on the wire: bytes sent by one rank, and steps (rounds that wait for one another).
// Arithmetic only; the traffic counter (communicator.cpp) and tests use the same functions. n is the group's
// size, r the rank, all bytes are of r alone.
//
//  - broadcast: binomial tree over v = (r - root) mod n; v sends to v + 2^i for each 2^i > v, v + 2^i < n.
//    bytes * (number of those); ceil(log2 n) steps.
//  - all_gather: every rank sends its rows straight to the n - 1 others.
//    rows_r * row_bytes * (n - 1); 1 step.
//  - reduce_scatter: an all_to_all of the shares, then a local sum in rank order.
//    (rows - rows_r) * row_bytes; 1 step.
//  - all_reduce, at most kSmallAllReduceBytes: all_gather, then every rank sums.
//    bytes * (n - 1); 1 step.
//  - all_reduce, larger: reduce_scatter and all_gather of near-even shares (base/split.h).
//    About 2 (n - 1) / n * bytes; 2 steps.
//  - all_to_all: the rows that go to others; the rank's own rows are copied. 1 step.
//  - send: the tensor; 1 step.
//  - recv, barrier: nothing is counted.
//
// 16-bit sums travel as 16 bits and are widened where they are summed. A group of one sends nothing.
#pragma once
#include <cstdint>
#include <vector>

#include "ithaca/base/split.h"

namespace ithaca {

struct Cost {
  int64_t bytes = 0;
  int steps = 0;
};

inline constexpr int64_t kSmallAllReduceBytes = 16384;

inline int64_t sum_of(const std::vector<int64_t>& counts) {
  int64_t total = 0;
  for (const int64_t count : counts) total += count;
  return total;
}

inline Cost broadcast_cost(int n, int r, int root, int64_t bytes) {
  const int v = (r - root + n) % n;
  Cost cost;
  for (int distance = 1; distance < n; distance *= 2) {
    cost.steps += 1;
    if (distance > v && v + distance < n) cost.bytes += bytes;
  }
  return cost;
}

inline Cost all_gather_cost(const std::vector<int64_t>& counts, int r, int64_t row_bytes) {
  const int n = static_cast<int>(counts.size());
  return n == 1 ? Cost{} : Cost{counts[static_cast<std::size_t>(r)] * row_bytes * (n - 1), 1};
}

// Also reduce_scatter: counts[j] rows go to rank j.
inline Cost all_to_all_cost(const std::vector<int64_t>& in_counts, int r, int64_t row_bytes) {
  if (in_counts.size() == 1) return {};
  return {(sum_of(in_counts) - in_counts[static_cast<std::size_t>(r)]) * row_bytes, 1};
}

inline Cost reduce_scatter_cost(const std::vector<int64_t>& counts, int r, int64_t row_bytes) {
  return all_to_all_cost(counts, r, row_bytes);
}

inline Cost all_reduce_cost(int n, int r, int64_t elements, int64_t element_bytes) {
  if (n == 1) return {};
  if (elements * element_bytes <= kSmallAllReduceBytes) return {elements * element_bytes * (n - 1), 1};
  const int64_t own = even_split(elements, n, r).count;
  return {(elements - own + own * (n - 1)) * element_bytes, 2};
}

}  // namespace ithaca
