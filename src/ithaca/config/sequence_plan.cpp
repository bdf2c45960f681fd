#include "ithaca/config/sequence_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <vector>

#include "ithaca/base/file.h"
#include "ithaca/config/attention_settings.h"
#include "ithaca/config/layout.h"

namespace ithaca {
namespace {

std::string shown(double value, const char* format) {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string shown_seconds(double seconds) {
  return seconds < 0.1 ? shown(seconds * 1e3, "%.3g ms") : shown(seconds, "%.3g s");
}

int64_t round_up_quotient(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Pairs of query and key of one row and head.
double attention_area(const Settings& settings, int64_t window) {
  const double tokens = static_cast<double>(settings.cutoff_len);
  const double reach = window > 0 ? std::min(tokens, static_cast<double>(window)) : tokens;
  const double back = tokens * reach - reach * reach / 2;
  return settings.causal ? back : 2 * back;
}

bool is_local(int64_t neighbours, int64_t ranks_per_node) {
  return neighbours <= ranks_per_node && ranks_per_node % neighbours == 0;
}

struct Estimate {
  const SequencePlan& plan;
  const Settings& settings;
  const ModelConfig& model;
  int64_t ranks_per_node;
  const SequenceCosts& costs;

  int64_t size() const { return plan.ulysses * plan.ring; }
  int64_t batch() const { return settings.per_device_train_batch_size; }
  int64_t element_bytes() const { return settings.bf16 ? 2 : 4; }
  int64_t ring_tokens() const { return round_up_quotient(settings.cutoff_len, plan.ring); }
  double ring_overhead() const {
    return 1 + costs.block_overhead * std::log2(static_cast<double>(plan.ring));
  }

  // The rank with the most heads. Two matrix products forward and five backward, of 2 D operations a pair.
  double attention() const {
    const auto heads = static_cast<double>(round_up_quotient(model.num_attention_heads, plan.ulysses));
    const double area =
        attention_area(settings, sliding_window_of(settings, model)) / static_cast<double>(plan.ring);
    const double operations = static_cast<double>(batch() * model.head_dim) * 14 * area * heads;
    return operations / (settings.bf16 ? costs.attention_flops_bf16 : costs.attention_flops) *
           ring_overhead();
  }

  double exchange() const {
    if (plan.ulysses == 1) return 0;
    const LayerTraffic layer =
        ulysses_traffic(model, batch(), ring_tokens(), element_bytes(), plan.ulysses, 0);
    const int64_t span = plan.ulysses_inner ? plan.ulysses : size();
    const double rate = is_local(span, ranks_per_node) ? costs.local_bytes : costs.wire_bytes;
    const double seconds = static_cast<double>(layer.forward + layer.backward) / rate;
    const int64_t heads = model.num_attention_heads / plan.ulysses;
    const int64_t chunks = std::clamp<int64_t>(settings.ulysses_chunks, 1, std::max<int64_t>(1, heads));
    return seconds / static_cast<double>(chunks) + 4 * static_cast<double>(chunks) * costs.message_seconds;
  }

  // What the ring sends, less what goes on behind the attention of the blocks at hand.
  double exposed_ring(double attention_seconds) const {
    if (plan.ring == 1) return 0;
    const int64_t window = sliding_window_of(settings, model);
    const int64_t all = (plan.ring - 1) * ring_tokens();
    // a window needs no more than the tail of what lies before
    const int64_t tokens = window > 0 && settings.causal ? std::min(all, window - 1) : all;
    const int64_t hops = std::clamp<int64_t>(round_up_quotient(tokens, ring_tokens()), 1, plan.ring - 1);
    const int64_t kv_heads = kv_heads_of(even_split(model.num_attention_heads, plan.ulysses, 0),
                                         model.num_attention_heads, model.num_key_value_heads)
                                 .count;
    // K and V forward and again backward; dK and dV in float32
    const auto bytes =
        static_cast<double>(2 * batch() * kv_heads * model.head_dim * tokens * (2 * element_bytes() + 4));
    const int64_t span = plan.ulysses_inner ? size() : plan.ring;
    const double rate = is_local(span, ranks_per_node) ? costs.local_bytes : costs.wire_bytes;
    const double blocks = static_cast<double>(plan.ring);
    const bool overlaps = plan.method != SequenceMethod::kKvAllgather;
    const double hidden = overlaps ? attention_seconds * (blocks - 1) / blocks : 0;
    return std::max(0.0, bytes / rate - hidden) +
           static_cast<double>(hops) * (3 * costs.message_seconds + costs.block_seconds);
  }

  double seconds() const {
    const double compute = attention();
    return compute + exchange() + exposed_ring(compute);
  }
};

bool packs_documents(const Settings& settings) {
  const std::string& text = settings.train_file.empty() ? settings.eval_file : settings.train_file;
  return settings.packing && file_ending(text) == ".jsonl";
}

// How uneven pure Ulysses would be: the most heads of a rank over the mean.
std::string uneven_heads(int64_t heads, int64_t ranks) {
  const int64_t most = round_up_quotient(heads, ranks);
  return str(heads, " query heads over ", ranks, " ranks are ", most, " against ", heads / ranks, " (",
             shown(static_cast<double>(most * ranks) / static_cast<double>(heads), "%.2f"),
             " times the mean)");
}

struct Auto {
  const Settings& settings;
  const ModelConfig& model;
  int64_t ranks_per_node;
  const SequenceCosts& costs;
  std::vector<SequencePlan> candidates;

  int64_t size() const { return settings.sequence_parallel_size; }
  int64_t heads() const { return model.num_attention_heads; }
  double seconds(const SequencePlan& plan) const {
    return estimated_attention_seconds(plan, settings, model, ranks_per_node, costs);
  }
  const SequencePlan* ulysses() const {
    const auto found = std::ranges::find(candidates, size(), &SequencePlan::ulysses);
    return found == candidates.end() ? nullptr : &*found;
  }

  // Ulysses where no estimate is needed to prefer it.
  std::optional<SequencePlan> plain_ulysses() const {
    if (!ulysses()) return std::nullopt;
    SequencePlan plan = *ulysses();
    if (heads() % size() == 0 && size() <= ranks_per_node) {
      plan.reason = str(heads(), " query heads divide over ", size(), " ranks of one machine");
      return plan;
    }
    if (packs_documents(settings)) {
      plan.reason =
          "rows are packed from many documents, and Ulysses' balance does not depend on their lengths";
      return plan;
    }
    return std::nullopt;
  }

  std::string why(const SequencePlan& best) const {
    const std::string time = str("attention of a layer estimated at ", shown_seconds(seconds(best)));
    if (size() > heads())
      return str(size(), " ranks are more than the ", heads(), " query heads; ", time,
                 ", the least of the grids that fit");
    const std::string other = ulysses() && best.ulysses != size()
                                  ? str(" against ", shown_seconds(seconds(*ulysses())), " of Ulysses")
                                  : "";
    if (heads() % size() != 0) return str(uneven_heads(heads(), size()), "; ", time, other);
    return str(size(), " ranks lie on several machines; ", time, other);
  }

  SequencePlan choose() const {
    if (auto plan = plain_ulysses()) return *std::move(plan);
    SequencePlan best =
        *std::ranges::min_element(candidates, {}, [this](const SequencePlan& plan) { return seconds(plan); });
    best.reason = candidates.size() == 1 ? "the only grid that fits" : why(best);
    return best;
  }
};

}  // namespace

std::string SequencePlan::method_name() const {
  switch (method) {
    case SequenceMethod::kUlysses:
      return "ulysses";
    case SequenceMethod::kRing:
      return inner_ring > 1 ? "double_ring" : "ring";
    case SequenceMethod::kHybrid:
      return "hybrid";
    case SequenceMethod::kKvAllgather:
      return "kv_allgather";
  }
  return "";
}

std::string SequencePlan::title() const {
  const std::string inner = inner_ring > 1 ? str(" (inner ring ", inner_ring, ")") : "";
  switch (method) {
    case SequenceMethod::kUlysses:
      return str("ulysses ", ulysses);
    case SequenceMethod::kRing:
      return str(method_name(), " ", ring, inner);
    case SequenceMethod::kHybrid:
      return str("hybrid ring ", ring, inner, " x ulysses ", ulysses);
    case SequenceMethod::kKvAllgather:
      return str("kv_allgather ", ring);
  }
  return "";
}

double estimated_attention_seconds(const SequencePlan& plan, const Settings& settings,
                                   const ModelConfig& model, int64_t ranks_per_node,
                                   const SequenceCosts& costs) {
  return Estimate{plan, settings, model, ranks_per_node, costs}.seconds();
}

std::vector<SequencePlan> sequence_candidates(const Settings& settings, int64_t heads) {
  const int64_t size = settings.sequence_parallel_size;
  const std::string& method = settings.sequence_parallel_method;
  const bool hybrid = method == "hybrid";
  std::vector<SequencePlan> all, both_axes;
  for (int64_t ulysses = std::min(size, heads); ulysses >= 1; --ulysses) {
    if (size % ulysses != 0) continue;
    SequencePlan plan;
    plan.ulysses = ulysses;
    plan.ring = size / ulysses;
    plan.ulysses_inner = settings.sequence_parallel_order == "ulysses_inner";
    plan.inner_ring = settings.cp_window_size;
    if (settings.ulysses_degree > 0 && ulysses != settings.ulysses_degree) continue;
    if (method == "ulysses" && plan.ring > 1) continue;
    if ((method == "ring" || method == "double_ring" || method == "kv_allgather") && ulysses > 1) continue;
    if (plan.inner_ring > 1 && (plan.ring % plan.inner_ring != 0 || plan.ring == plan.inner_ring)) continue;
    plan.method = method == "kv_allgather" ? SequenceMethod::kKvAllgather
                  : hybrid                 ? SequenceMethod::kHybrid
                  : ulysses == size        ? SequenceMethod::kUlysses
                  : ulysses == 1           ? SequenceMethod::kRing
                                           : SequenceMethod::kHybrid;
    all.push_back(plan);
    if (ulysses > 1 && plan.ring > 1) both_axes.push_back(plan);
  }
  // who asks for a hybrid, or has more ranks than heads, means two axes wherever there can be two
  return (hybrid || size > heads) && !both_axes.empty() ? both_axes : all;
}

SequencePlan plan_sequence(const Settings& settings, const ModelConfig& model, int64_t ranks_per_node,
                           const SequenceCosts& costs) {
  if (settings.sequence_parallel_size == 1) return {.reason = "every rank has sequences of its own"};
  Auto choice{settings, model, ranks_per_node, costs,
              sequence_candidates(settings, model.num_attention_heads)};
  ITHACA_CHECK(!choice.candidates.empty(), "the settings have not been checked");
  const bool open = settings.sequence_parallel_method == "auto" && settings.ulysses_degree == 0;
  if (open || choice.candidates.size() > 1) return choice.choose();
  SequencePlan plan = choice.candidates.front();
  plan.reason = "as the settings say";
  return plan;
}

}  // namespace ithaca
