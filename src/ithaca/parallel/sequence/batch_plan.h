// Everything about one batch that sequence-parallel attention computes before it touches a tensor: rows,
// documents, and the way of every block of K and V. Alike on every rank.
#pragma once
#include <memory>

#include "ithaca/parallel/sequence/layout.h"

namespace ithaca {

Rows to_rows(const RowSet& rows);

// Calls f(a_offset, b_offset, count) for each run of rows that both sets hold: where it lies in each.
template <class F>
void for_each_common(const RowSet& a, const RowSet& b, F f) {
  int64_t a_offset = 0, b_offset = 0;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const int64_t begin = std::max(a[i].begin, b[j].begin);
    const int64_t a_end = a[i].begin + a[i].count, b_end = b[j].begin + b[j].count;
    const int64_t end = std::min(a_end, b_end);
    if (begin < end) f(a_offset + begin - a[i].begin, b_offset + begin - b[j].begin, end - begin);
    if (a_end <= b_end) {
      a_offset += a[i++].count;
    } else {
      b_offset += b[j++].count;
    }
  }
}

// Batch rows that are computed in one call: all, or, where rows or documents differ, one.
struct BatchSlice {
  int64_t begin = 0, count = 0;
  SharedPattern pattern;     // of these batch rows
  std::vector<RowSet> rows;  // by ring rank
};

struct BatchPlan {
  BatchPlan(int ulysses, int ring, int inner_ring, const SharedPattern& pattern, int64_t batch);

  // Bytes a row of K and V, and of dK and dV, cost on the way; the direction of the ring that sends less.
  const RingRoutes& routes(int64_t key_value_bytes, int64_t sum_bytes) const;

  int64_t batch = 0;
  SharedPattern pattern;  // of all batch rows
  SequenceLayout layout;  // of a grid with ulysses_inner
  std::vector<BatchSlice> slices;
  RingRoutes up, down;  // sets by slice; blocks go to rank + 1, to rank - 1

 private:
  RouteRows sent_up_, sent_down_;  // by all ranks
};

// The plan of the last batch: whoever needs one, of the layers and of those who cut and report the batch, asks here.
class PlanCache {
 public:
  PlanCache(int ulysses, int ring, int inner_ring)
      : ulysses_(ulysses), ring_(ring), inner_ring_(inner_ring) {}
  std::shared_ptr<const BatchPlan> get(const SharedPattern& pattern, int64_t batch);
  int64_t plans_made() const { return made_; }

 private:
  int ulysses_, ring_, inner_ring_;
  SharedPattern pattern_;  // as last asked for: the next layer brings the same object
  std::shared_ptr<const BatchPlan> plan_;
  int64_t made_ = 0;
};

}  // namespace ithaca
