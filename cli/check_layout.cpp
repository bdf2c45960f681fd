#include "cli/check_layout.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "ithaca/base/cpu.h"
#include "ithaca/config/attention_settings.h"
#include "ithaca/config/sequence_load.h"
#include "ithaca/config/sequence_plan.h"

namespace ithaca {
namespace {

constexpr std::size_t kMaxRows = 64;    // of the table of ranks
constexpr std::size_t kMaxMethods = 8;  // compared
constexpr std::size_t kMaxGridSide = 16;
constexpr int64_t kMaxSize = 1024;  // ranks of a sequence that are worked out: `check` answers at once

std::string range(Share span) {
  if (span.count == 0) return "none";
  return span.count == 1 ? std::to_string(span.begin) : str(span.begin, "..", span.begin + span.count - 1);
}

std::string ranges(const RowSet& rows) {
  std::string text;
  for (const Share run : rows) text += str(text.empty() ? "" : " ", range(run));
  return text.empty() ? "none" : text;
}

std::string decimal(double value, const char* format) {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// Columns as wide as what is in them, two spaces apart.
void print_table(const std::vector<std::vector<std::string>>& lines) {
  std::vector<std::size_t> widths(lines.front().size());
  for (const auto& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  for (const auto& line : lines) {
    std::string text;
    for (std::size_t c = 0; c < line.size(); ++c)
      text += line[c] + std::string(c + 1 < line.size() ? widths[c] - line[c].size() + 2 : 0, ' ');
    std::printf("  %s\n", text.c_str());
  }
}

// Bytes of a whole step: every layer, every micro-batch, forward, backward and what checkpointing repeats.
int64_t step_bytes(const Settings& s, const ModelConfig& model, const RankLoad& load) {
  const int64_t repeated = s.gradient_checkpointing == "full" ? load.repeated : 0;
  return model.num_hidden_layers * s.gradient_accumulation_steps * (load.forward + load.backward + repeated);
}

void print_line(const char* name, const std::string& value) {
  std::printf("  %-14s %s\n", name, value.c_str());
}

std::string kernel_text(const Settings& s, const ModelConfig& model) {
  const bool plain =
      sliding_window_of(s, model) == 0 && !uses_alibi(s, model) && s.sparse_attention_mode == "dense";
  if (s.attention == "auto" && s.bf16 && plain && choose_cpu().aten_bf16_attention)
    return "aten (auto on this CPU, whose AMX multiplies bf16)";
  const bool own = s.attention == "auto" || s.attention == "flash";
  return own ? str("ithaca (", s.attention, " on the CPU)") : s.attention;
}

std::string pattern_text(const Settings& s, const ModelConfig& model) {
  std::string text = s.causal ? "causal" : "both ways";
  if (const int64_t window = sliding_window_of(s, model); window > 0)
    text += str(", window of ", window, " tokens");
  if (uses_alibi(s, model)) text += ", ALiBi";
  if (s.sparse_attention_mode == "fixed")
    text += str(", blocks of ", s.sparse_attention_block, " tokens: ", s.sparse_attention_num_local_blocks,
                " local, ", s.sparse_attention_num_global_blocks, " global");
  if (s.sparse_attention_mode == "mask")
    text += str(", blocks of ", s.sparse_attention_block, " tokens as in ", s.sparse_attention_mask_file);
  return text;
}

void print_grid(const SequencePlan& plan) {
  if (plan.ring == 1 || plan.ulysses == 1) return;
  print_line("grid", "ranks of one sequence; a row exchanges heads (Ulysses), a column is a ring");
  const auto shown_rows = std::min<int64_t>(plan.ring, kMaxGridSide);
  const auto shown_columns = std::min<int64_t>(plan.ulysses, kMaxGridSide);
  for (int64_t row = 0; row < shown_rows; ++row) {
    std::string line;
    for (int64_t column = 0; column < shown_columns; ++column)
      line += decimal(
          static_cast<double>(plan.ulysses_inner ? row * plan.ulysses + column : column * plan.ring + row),
          "%5.0f");
    print_line("", line + (shown_columns < plan.ulysses ? " ..." : ""));
  }
  if (shown_rows < plan.ring) print_line("", "  ...");
}

void print_ranks(const Settings& s, const ModelConfig& model, const SequencePlan& plan) {
  const std::vector<RankLoad> loads = sequence_loads(plan, s, model);
  const bool ring_known = plan.ring <= kMaxRingWorkedOut;
  std::vector<std::vector<std::string>> lines = {{"rank", "ring", "ulysses", "tokens", "", "query heads",
                                                  "kv heads", "work", "sent forward", "backward",
                                                  "in a step"}};
  double total = 0;
  for (const RankLoad& load : loads) total += load.pairs;
  for (std::size_t rank = 0; rank < std::min(loads.size(), kMaxRows); ++rank) {
    const RankLoad& load = loads[rank];
    lines.push_back({std::to_string(rank), std::to_string(load.ring_index),
                     std::to_string(load.ulysses_index), std::to_string(count_of(load.rows)),
                     ranges(load.rows), range(load.q_heads), range(load.kv_heads),
                     decimal(100.0 * load.pairs / std::max(1.0, total), "%.2f %%"),
                     ring_known ? megabytes(load.forward) : "-", ring_known ? megabytes(load.backward) : "-",
                     ring_known ? megabytes(step_bytes(s, model, load)) : "-"});
  }
  std::printf(
      "\n  what each rank of a sequence holds, its share of attention's work, and what it sends for "
      "attention in a layer\n");
  print_table(lines);
  if (loads.size() > kMaxRows) std::printf("  (%zu more ranks)\n", loads.size() - kMaxRows);
  std::printf("  imbalance %.3f (the most work of a rank over the mean)\n", imbalance(loads));
}

// What else could run, so that the choice can be judged.
void print_methods(const Settings& s, const ModelConfig& model, const SequencePlan& chosen,
                   int64_t ranks_per_node) {
  Settings open = s;
  open.sequence_parallel_method = "auto";
  open.ulysses_degree = 0;
  open.cp_window_size = 1;
  std::vector<SequencePlan> plans = sequence_candidates(open, model.num_attention_heads);
  if (plans.size() >= kMaxMethods) plans.resize(kMaxMethods - 1);
  plans.push_back({.method = SequenceMethod::kKvAllgather, .ring = s.sequence_parallel_size, .reason = {}});
  if (std::ranges::find(plans, chosen.title(), &SequencePlan::title) == plans.end())
    plans.insert(plans.begin(), chosen);
  std::vector<std::vector<std::string>> lines = {
      {"", "method", "imbalance", "most sent in a step", "attention of a layer, estimated"}};
  for (const SequencePlan& plan : plans) {
    const std::vector<RankLoad> loads = sequence_loads(plan, s, model);
    int64_t most = 0;
    for (const RankLoad& load : loads) most = std::max(most, step_bytes(s, model, load));
    lines.push_back({plan.title() == chosen.title() ? "*" : "", plan.title(),
                     decimal(imbalance(loads), "%.3f"), plan.ring > kMaxRingWorkedOut ? "-" : megabytes(most),
                     decimal(1e3 * estimated_attention_seconds(plan, s, model, ranks_per_node), "%.2f ms")});
  }
  std::printf("\n  methods (* is the one that would run)\n");
  print_table(lines);
}

void print_notes(const Settings& s) {
  if (s.sparse_attention_mode != "dense")
    print_line("note", "work and bytes are those without sparse blocks");
  if (s.packing)
    print_line("note", "for rows that are one document; documents that share a row mean less work");
}

}  // namespace

std::string megabytes(int64_t bytes) {
  return decimal(static_cast<double>(bytes) / 1e6, "%.2f MB");
}

void print_attention_layout(const Settings& s, const ModelConfig& model, int64_t ranks_per_node) {
  print_line("attention", str(kernel_text(s, model), "; ", pattern_text(s, model)));
  if (s.sequence_parallel_size == 1) return;
  const SequencePlan plan = plan_sequence(s, model, ranks_per_node);
  print_line("method", str(plan.title(), ": ", plan.reason));
  print_grid(plan);
  if (s.sequence_parallel_size > kMaxSize)
    return print_line(
        "note", str("what each of more than ", kMaxSize, " ranks holds and sends is not worked out here"));
  print_ranks(s, model, plan);
  print_methods(s, model, plan, ranks_per_node);
  print_notes(s);
}

}  // namespace ithaca
