// Letters: B batch, D head size, E bytes of an element.
#include "ithaca/config/sequence_load.h"

#include <algorithm>

#include "ithaca/config/attention_settings.h"

namespace ithaca {
namespace {

constexpr int64_t kSumBytes = 4;  // dK and dV on a ring: float32

// The ring's way in the direction that sends less, as config/layout.h (sequence_traffic) has it.
struct RingWays {
  RingRoutes forward, backward;
};

struct Loads {
  const SequencePlan& plan;
  const Settings& settings;
  const ModelConfig& model;
  PairRules rules;
  std::vector<RowSet> ring_rows_of;  // by ring rank
  RingWays ways = {};

  int64_t element_bytes() const { return settings.bf16 ? 2 : 4; }
  int64_t head_row_bytes() const {  // B D E
    return settings.per_device_train_batch_size * model.head_dim * element_bytes();
  }

  // Of these rows, per kv head and element of it.
  int64_t ring_bytes(const RouteRows& sent, bool backward) const {
    return sent.key_values * element_bytes() + (backward ? sent.sums * kSumBytes : 0);
  }

  void find_ways() {
    const RingNeeds needs = ring_needs({ring_rows_of}, settings.cutoff_len, {}, rules);
    const int inner = static_cast<int>(plan.inner_ring);
    const RingRoutes up = ring_routes(needs, inner, 1), down = ring_routes(needs, inner, -1);
    const auto cheaper = [&](bool backward) {
      const bool turn = plan.method != SequenceMethod::kKvAllgather &&
                        ring_bytes(rows_sent(down, -1), backward) < ring_bytes(rows_sent(up, -1), backward);
      return turn ? down : up;
    };
    ways = {cheaper(false), cheaper(true)};
  }

  void add_ulysses(RankLoad& load) const {
    const int64_t tokens = count_of(ring_rows_of[static_cast<std::size_t>(load.ring_index)]);
    const LayerTraffic layer = ulysses_traffic(model, settings.per_device_train_batch_size, tokens,
                                               element_bytes(), plan.ulysses, load.ulysses_index);
    load.forward += layer.forward;
    load.backward += layer.backward;
    // out goes back once only: it is kept
    load.repeated += layer.forward - head_row_bytes() * load.q_heads.count * (tokens - count_of(load.rows));
  }

  // kv heads that a rank sends on the ring: one that two chunks of its query heads read goes with both.
  int64_t ring_kv_heads(const RankLoad& load) const {
    const int64_t heads = model.num_attention_heads, kv = model.num_key_value_heads;
    const int64_t chunks = plan.ulysses > 1 ? std::min(settings.ulysses_chunks, load.q_heads.count) : 1;
    int64_t sum = 0;
    for (int64_t c = 0; c < chunks; ++c)
      sum += kv_heads_of(query_heads_of_chunk(load.q_heads, heads, kv, chunks, c), heads, kv).count;
    return sum;
  }

  // K and V forward and again backward, dK and dV in float32 backward.
  void add_ring(RankLoad& load) const {
    if (ways.forward.empty()) return;
    const int rank = static_cast<int>(load.ring_index);
    const int64_t pair = 2 * settings.per_device_train_batch_size * model.head_dim * ring_kv_heads(load);
    const auto sent = [&](const RingRoutes& routes) {
      return plan.method == SequenceMethod::kKvAllgather ? rows_gathered(routes, rank)
                                                         : rows_sent(routes, rank);
    };
    load.forward += pair * ring_bytes(sent(ways.forward), false);
    load.backward += pair * ring_bytes(sent(ways.backward), true);
  }

  RankLoad of(int64_t rank) const {
    RankLoad load;
    load.ring_index = plan.ulysses_inner ? rank / plan.ulysses : rank % plan.ring;
    load.ulysses_index = plan.ulysses_inner ? rank % plan.ulysses : rank / plan.ring;
    const RowSet& rows = ring_rows_of[static_cast<std::size_t>(load.ring_index)];
    const Share part = even_split(count_of(rows), plan.ulysses, load.ulysses_index);
    load.rows = slice_of(rows, part.begin, part.count);
    load.q_heads = even_split(model.num_attention_heads, plan.ulysses, load.ulysses_index);
    load.kv_heads = kv_heads_of(load.q_heads, model.num_attention_heads, model.num_key_value_heads);
    load.pairs = static_cast<double>(attention_pairs(rows, settings.cutoff_len, {}, rules)) *
                 static_cast<double>(load.q_heads.count);
    add_ulysses(load);
    add_ring(load);
    return load;
  }
};

}  // namespace

std::vector<RankLoad> sequence_loads(const SequencePlan& plan, const Settings& settings,
                                     const ModelConfig& model) {
  const PairRules rules = dense_rules(settings.causal, sliding_window_of(settings, model));
  Loads loads{plan, settings, model, rules, ring_rows(settings.cutoff_len, {}, plan.ring, rules)};
  if (plan.ring > 1 && plan.ring <= kMaxRingWorkedOut) loads.find_ways();
  std::vector<RankLoad> result;
  for (int64_t rank = 0; rank < plan.ulysses * plan.ring; ++rank) result.push_back(loads.of(rank));
  return result;
}

double imbalance(const std::vector<RankLoad>& loads) {
  double most = 0, total = 0;
  for (const RankLoad& load : loads) {
    most = std::max(most, load.pairs);
    total += load.pairs;
  }
  return total == 0 ? 1 : most * static_cast<double>(loads.size()) / total;
}

}  // namespace ithaca
