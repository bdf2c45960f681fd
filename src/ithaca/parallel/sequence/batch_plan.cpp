#include "ithaca/parallel/sequence/batch_plan.h"

#include <algorithm>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// Do all batch rows need the same of every block?
bool alike(const RingRoutes& routes) {
  for (const std::vector<Visit>& visits : routes)
    for (const Visit& visit : visits)
      if (std::adjacent_find(visit.needs.begin(), visit.needs.end(), std::not_equal_to<>()) !=
          visit.needs.end())
        return false;
  return true;
}

void keep_first_slice(RingRoutes& routes) {
  for (std::vector<Visit>& visits : routes)
    for (Visit& visit : visits) {
      visit.needs.resize(1);
      visit.carried.resize(1);
      visit.summed.resize(1);
    }
}

}  // namespace

Rows to_rows(const RowSet& rows) {
  Rows runs;
  for (const Share run : rows) runs.push_back({run.begin, run.count});
  return runs;
}

BatchPlan::BatchPlan(int ulysses, int ring, int inner_ring, const SharedPattern& whole, int64_t rows_of_batch)
    : batch(rows_of_batch),
      pattern(whole),
      layout({ulysses, ring, false}, whole, rows_of_batch, whole->sequence_length) {
  const PairRules rules = pair_rules(pattern);
  std::vector<std::vector<RowSet>> rows = layout.ring_rows();
  if (!pattern->documents.empty()) rows.resize(batch, rows.front());
  bool one_call = layout.ring_rows().size() == 1;
  if (ring > 1) {
    const RingNeeds needs = ring_needs(rows, layout.length(), pattern->documents, rules);
    up = ring_routes(needs, inner_ring, 1);
    down = ring_routes(needs, inner_ring, -1);
    one_call = one_call && alike(up);
    if (one_call) {
      keep_first_slice(up);
      keep_first_slice(down);
    }
    sent_up_ = rows_sent(up, -1);
    sent_down_ = rows_sent(down, -1);
  }
  if (one_call) {
    slices.push_back({0, batch, pattern, rows.front()});
    return;
  }
  AttentionPattern row_pattern = pattern;
  for (int64_t b = 0; b < batch; ++b) {
    row_pattern.documents = {pattern->documents[b]};
    slices.push_back({b, 1, row_pattern, rows[b]});
  }
}

const RingRoutes& BatchPlan::routes(int64_t key_value_bytes, int64_t sum_bytes) const {
  const auto bytes = [&](RouteRows sent) {
    return sent.key_values * key_value_bytes + sent.sums * sum_bytes;
  };
  return bytes(sent_down_) < bytes(sent_up_) ? down : up;
}

std::shared_ptr<const BatchPlan> PlanCache::get(const SharedPattern& pattern, int64_t batch) {
  ITHACA_CHECK(pattern->sequence_length > 0, "the length of the whole sequence is not known");
  if (!plan_ || plan_->batch != batch || !(pattern_ == pattern)) {
    plan_ = std::make_shared<const BatchPlan>(ulysses_, ring_, inner_ring_, pattern, batch);
    ++made_;
  }
  pattern_ = pattern;
  return plan_;
}

}  // namespace ithaca
