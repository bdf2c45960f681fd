#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cli/check_layout.h"
#include "cli/commands.h"
#include "cli/ranks_here.h"
#include "ithaca/base/error.h"
#include "ithaca/checkpoint/model_weights.h"
#include "ithaca/config/settings.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

void print_layout(const Settings& s, int64_t world_size) {
  const int64_t data = world_size / s.sequence_parallel_size;
  const int64_t rows = s.per_device_train_batch_size * s.gradient_accumulation_steps * data;
  std::printf("\n# what would run\n  ranks          %s\n",
              str(world_size, " = ", data, " data x ", s.sequence_parallel_size,
                  " sequence; rank = data index * ", s.sequence_parallel_size, " + sequence index")
                  .c_str());
  std::printf(
      "  global batch   %s\n",
      str(rows, " rows of ", s.cutoff_len, " tokens = ", rows * s.cutoff_len, " tokens a step").c_str());
}

void print_model(const Settings& s, const ModelConfig& model, int64_t world_size, int64_t ranks_per_node) {
  const int64_t parameters = count_parameters(model);
  std::printf("  model          %s\n",
              str(model.architecture, ", ", parameters, " parameters, ", model.num_hidden_layers, " layers, ",
                  model.num_attention_heads, " query heads, ", model.num_key_value_heads, " kv heads of ",
                  model.head_dim)
                  .c_str());
  const int64_t weight_bytes = (s.bf16 ? 2 : 4) * parameters;
  // AdamW's two moments, and the 16 bits that bf16 weights lack of their float32 masters.
  const int64_t state_bytes = (s.optim == "sgd" ? 0 : 8) * parameters + (s.bf16 ? 2 * parameters : 0);
  std::printf(
      "  memory         a rank: weights %s, gradients %s (float32), optimizer %s%s; activations come on "
      "top\n",
      megabytes(weight_bytes).c_str(), megabytes(4 * parameters).c_str(),
      megabytes(state_bytes / world_size).c_str(),
      world_size > 1 ? str(" (1/", world_size, " of its states)").c_str() : "");
  if (world_size > 1)
    std::printf("  bytes a step   a rank sends %s of gradients and %s of new weights\n",
                megabytes(4 * parameters * (world_size - 1) / world_size).c_str(),
                megabytes(weight_bytes * (world_size - 1) / world_size).c_str());
  if (s.cutoff_len > model.max_position_embeddings)
    std::printf("  note           cutoff_len %lld is beyond the %lld positions the model was made for\n",
                static_cast<long long>(s.cutoff_len), static_cast<long long>(model.max_position_embeddings));
  print_attention_layout(s, model, ranks_per_node);
}

void print_plan(const ResolvedSettings& settings, int64_t world_size, int64_t ranks_per_node,
                Problems& problems) {
  const Settings& s = settings.values;
  if (world_size % s.sequence_parallel_size == 0) print_layout(s, world_size);
  std::error_code error;
  const fs::path folder = model_folder(s);
  if (!fs::exists(folder / "config.json", error)) return;
  try {
    const ModelConfig model = read_checked_config(s, false);
    check_model_layout(settings, model, world_size, problems);
    if (problems.empty()) print_model(s, model, world_size, ranks_per_node);
    for (const std::string& note : model.notes) std::printf("  note           %s\n", note.c_str());
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
  const RanksHere ranks = ranks_here(settings, "train", problems);
  check_settings(settings, ranks.world_size, problems, "train");
  check_output_dir(settings, problems);
  std::fputs(settings_to_yaml(settings).c_str(), stdout);
  print_plan(settings, ranks.world_size, ranks.local_ranks, problems);
  if (!ranks.environment.remark.empty() && ranks.local_ranks == 1)
    std::printf("  note           %s\n", ranks.environment.remark.c_str());
  for (const std::string& limit : exceeded_limits(settings, ranks))
    std::printf("  note           on this machine %s\n", limit.c_str());
  for (const std::string& note : settings.notes) std::printf("  note           %s\n", note.c_str());
  std::fflush(stdout);  // before the problems on the other stream
  problems.throw_if_any(str(given.file.string(), " cannot be run:"));
  std::puts("\nNo problems found.");
  return kDone;
}

}  // namespace ithaca
