#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cli/commands.h"
#include "ithaca/base/error.h"
#include "ithaca/config/layout.h"
#include "ithaca/config/settings.h"
#include "ithaca/launch/environment.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr int64_t kMaxRows = 64;  // of the table of ranks

std::string range(Share span) {
  if (span.count == 0) return "none";
  return span.count == 1 ? std::to_string(span.begin) : str(span.begin, "..", span.begin + span.count - 1);
}

std::string megabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

// Bytes of a whole step: every layer, every micro-batch, forward, backward and what checkpointing repeats.
int64_t step_bytes(const Settings& s, const UlyssesTraffic& layer, int64_t layers) {
  const int64_t repeated = s.gradient_checkpointing == "full" ? layer.forward : 0;
  return layers * s.gradient_accumulation_steps * (layer.forward + layer.backward + repeated);
}

void print_ranks(const Settings& s, const ModelConfig& model) {
  const int64_t ranks = s.sequence_parallel_size;
  std::printf("\n  %-6s %-18s %-12s %-10s %s\n", "rank", "tokens", "query heads", "kv heads",
              "bytes sent for attention in a step");
  for (int64_t rank = 0; rank < std::min(ranks, kMaxRows); ++rank) {
    const Share q = even_split(model.num_attention_heads, ranks, rank);
    const UlyssesTraffic layer =
        ulysses_traffic(model, s.per_device_train_batch_size, s.cutoff_len, s.bf16 ? 2 : 4, ranks, rank);
    std::printf("  %-6lld %-18s %-12s %-10s %s\n", static_cast<long long>(rank),
                range(even_split(s.cutoff_len, ranks, rank)).c_str(), range(q).c_str(),
                range(kv_heads_of(q, model.num_attention_heads, model.num_key_value_heads)).c_str(),
                megabytes(step_bytes(s, layer, model.num_hidden_layers)).c_str());
  }
  if (ranks > kMaxRows) std::printf("  (%lld more ranks)\n", static_cast<long long>(ranks - kMaxRows));
}

void print_layout(const Settings& s, int64_t world_size) {
  const int64_t data = world_size / s.sequence_parallel_size;
  const int64_t rows = s.per_device_train_batch_size * s.gradient_accumulation_steps * data;
  std::printf("\n# what would run\n  ranks          %s\n",
              str(world_size, " = ", data, " data x ", s.sequence_parallel_size,
                  " sequence (Ulysses); rank = data index * ", s.sequence_parallel_size, " + sequence index")
                  .c_str());
  std::printf(
      "  global batch   %s\n",
      str(rows, " rows of ", s.cutoff_len, " tokens = ", rows * s.cutoff_len, " tokens a step").c_str());
}

void print_model(const Settings& s, const ModelConfig& model, int64_t world_size) {
  const int64_t parameters = count_parameters(model);
  std::printf("  model          %s\n",
              str(model.architecture, ", ", parameters, " parameters, ", model.num_hidden_layers, " layers, ",
                  model.num_attention_heads, " query heads, ", model.num_key_value_heads, " kv heads of ",
                  model.head_dim)
                  .c_str());
  std::printf(
      "  gradients      %s in float32%s\n", megabytes(4 * parameters).c_str(),
      world_size > 1
          ? str("; to sum them each rank sends about 2 (n - 1) / n of that a step, n = ", world_size).c_str()
          : "");
  if (s.cutoff_len > model.max_position_embeddings)
    std::printf("  note           cutoff_len %lld is beyond the %lld positions the model was made for\n",
                static_cast<long long>(s.cutoff_len), static_cast<long long>(model.max_position_embeddings));
  if (s.sequence_parallel_size > 1) print_ranks(s, model);
}

void print_plan(const ResolvedSettings& settings, int64_t world_size, Problems& problems) {
  const Settings& s = settings.values;
  if (world_size % s.sequence_parallel_size == 0) print_layout(s, world_size);
  std::error_code error;
  const fs::path folder = model_folder(s);
  if (!fs::exists(folder / "config.json", error)) return;
  try {
    const ModelConfig model = read_model_config(folder);
    check_model_layout(settings, model, world_size, problems);
    if (problems.empty()) print_model(s, model, world_size);
  } catch (const UserError& mistake) {
    problems.add(mistake.what());
  }
}

}  // namespace

int run_check(const Words& words) {
  const bool named = !words.empty() && words.front() == "cfg";
  const SettingsArguments given = split_arguments({words.begin() + (named ? 1 : 0), words.end()});
  if (given.file.empty())
    throw UserError("check: expected a settings file, such as: ithaca check cfg run.yaml --nproc 2");
  Problems problems;
  const ResolvedSettings settings = resolve_settings(given.file, given.arguments, problems);
  const RankEnvironment environment = read_rank_environment();
  const int64_t world_size =
      environment.source == "single" ? std::max<int64_t>(1, settings.values.nproc) : environment.world_size;
  check_settings(settings, world_size, problems, "train");
  check_output_dir(settings, problems);
  std::fputs(settings_to_yaml(settings).c_str(), stdout);
  print_plan(settings, world_size, problems);
  std::fflush(stdout);  // before the problems on the other stream
  problems.throw_if_any(str(given.file.string(), " cannot be run:"));
  std::puts("\nNo problems found.");
  return kDone;
}

}  // namespace ithaca
