#include "ithaca/train/resume.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/full.h>
#include <torch/version.h>

#include <nlohmann/json.hpp>

#include "ithaca/checkpoint/training_state.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr int64_t kNone = -1;

// On rank 0: the step of the newest whole checkpoint of output_dir, or kNone.
int64_t newest_step(const TrainContext& context) {
  const Settings& s = context.settings.values;
  std::vector<std::string> skipped;
  const std::optional<FoundCheckpoint> found = find_checkpoint(s.output_dir, skipped);
  for (const std::string& line : skipped) context.logger.warning(line);
  if (!found && s.resume_from_checkpoint == "true")
    throw UserError(str("resume_from_checkpoint true: no whole checkpoint-N in ", s.output_dir,
                        "; leave it out to start anew"));
  return found ? found->step : kNone;
}

std::string differences(const Json& saved, const Json& now) {
  std::string text;
  for (const auto& [key, value] : now.items())
    if (const Json old = saved.value(key, Json()); old != value)
      text += str(text.empty() ? "" : ", ", key, " ", old.dump(), " then, ", value.dump(), " now");
  return text;
}

}  // namespace

std::optional<fs::path> choose_checkpoint(const TrainContext& context) {
  const Settings& s = context.settings.values;
  const std::string& wish = s.resume_from_checkpoint;
  const bool leads = context.world.rank() == 0;
  const bool anew = wish == "false" || (wish == "auto" && s.overwrite_output_dir);
  const bool by_search = wish == "auto" || wish == "true";
  int64_t step = kNone;
  if (leads) {
    if (anew && s.overwrite_output_dir) remove_checkpoints(s.output_dir);
    if (!anew && by_search) step = newest_step(context);
    if (!anew && !by_search) verify_checkpoint(wish);
  }
  at::Tensor answer =
      at::full({1}, step, at::kLong);  // also: nobody goes on before rank 0 has cleared and verified
  context.world.broadcast(answer, 0);
  step = answer.item<int64_t>();
  if (anew) return std::nullopt;
  if (!by_search) return fs::path(wish);
  if (step == kNone) return std::nullopt;
  return fs::path(s.output_dir) / str("checkpoint-", step);
}

Json run_identity(const Settings& s, const DataIdentity& data) {
  return {{"rows", data.rows},
          {"tokens", data.tokens},
          {"global_batch", data.global_batch},
          {"cutoff_len", s.cutoff_len},
          {"packing", s.packing},
          {"disable_shuffling", s.disable_shuffling},
          {"seed", s.seed}};
}

Json run_conditions(const TrainContext& context, int64_t total_steps) {
  const Settings& s = context.settings.values;
  return {{"world_size", context.world.size()},
          {"sequence_parallel_size", s.sequence_parallel_size},
          {"gradient_accumulation_steps", s.gradient_accumulation_steps},
          {"threads_per_rank", at::get_num_threads()},
          {"cpu_capability", at::get_cpu_capability()},
          {"torch", TORCH_VERSION},
          {"total_steps", total_steps},
          {"lr_scheduler_type", s.lr_scheduler_type},
          {"learning_rate", s.learning_rate},
          {"warmup_steps", s.warmup_steps},
          {"warmup_ratio", s.warmup_ratio},
          {"optim", s.optim},
          {"bf16", s.bf16}};
}

void check_same_run(const Json& saved, const Json& identity, const Json& conditions, const fs::path& folder,
                    Logger& logger) {
  if (!saved.contains("identity") || !saved.contains("conditions"))
    throw UserError(str(folder.string(), ": not a training state of this program"));
  if (const std::string text = differences(saved.at("identity"), identity); !text.empty())
    throw UserError(str(folder.string(), " belongs to a run with other data or another order of it: ", text,
                        "; its position would mean other samples. Use the same settings, or start anew with "
                        "--overwrite_output_dir"));
  if (const std::string text = differences(saved.at("conditions"), conditions); !text.empty())
    logger.warning(str("the checkpoint was written under other conditions: ", text,
                       "; the run goes on, its bits may differ from those of an unbroken one"));
}

}  // namespace ithaca
