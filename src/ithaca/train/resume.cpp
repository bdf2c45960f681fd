#include "ithaca/train/resume.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/full.h>
#include <torch/version.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/checkpoint/output_model.h"
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

// Strings as they are: settings are kept as text.
std::string text_of(const Json& value) {
  if (!value.is_string()) return value.dump();
  const std::string text = value.get<std::string>();
  return text.empty() ? "(none)" : text;
}

struct Differences {
  std::string values, unknown;  // "seed 42 then, 7 now, ..."; what was not recorded
};

Differences compare(const Json& saved, const Json& now) {
  Differences found;
  const auto add = [](std::string& list, const std::string& what) {
    list += (list.empty() ? "" : ", ") + what;
  };
  for (const auto& [key, value] : now.items()) {
    const auto old = saved.find(key);
    if (old == saved.end()) {
      add(found.unknown, key);
    } else if (*old != value) {
      add(found.values, str(key, " ", text_of(*old), " then, ", text_of(value), " now"));
    }
  }
  return found;
}

// A branch of its own: what output_dir holds besides the way to `start` would be taken for its continuation.
void set_aside_others(const TrainContext& context, const fs::path& start) {
  const fs::path output_dir = context.settings.values.output_dir;
  const std::vector<fs::path> moved = set_aside_checkpoints(output_dir, start);
  std::string names;
  for (const fs::path& path : moved) names += (names.empty() ? "" : ", ") + path.filename().string();
  if (!moved.empty())
    context.logger.warning(str("going back to ", start.string(), ": the checkpoints of ", output_dir.string(),
                               " that do not lead there were renamed to ", names,
                               "; they are not looked at any more"));
}

// What changes the numbers of a model; names, paths and the precision of the files do not.
std::string model_identity(const ModelConfig& model) {
  Json config = *model.raw;
  for (const char* key : {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version",
                          "use_cache", "sliding_window", "alibi"})
    config.erase(key);
  return sha256_of(config.dump(-1, ' ', false, Json::error_handler_t::replace));
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
    remove_unfinished_files(s.output_dir);
    if (anew && s.overwrite_output_dir) {
      remove_checkpoints(s.output_dir);
      remove_unfinished_model(s.output_dir);
    } else {
      finish_model(s.output_dir);
    }
    if (!anew && by_search) step = newest_step(context);
    if (!anew && !by_search) {
      verify_checkpoint(wish);
      set_aside_others(context, wish);
    }
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

Json run_identity(const Settings& settings, const ModelConfig& model, const DataIdentity& data) {
  Json identity = {{"rows", data.rows},
                   {"tokens", data.tokens},
                   {"global_batch", data.global_batch},
                   {"text (SHA-256)", data.content},
                   {"tokenizer (SHA-256)", data.tokenizer},
                   {"config.json (SHA-256)", model_identity(model)}};
  if (settings.sparse_attention_mode == "mask")
    identity["sparse_attention.mask_file (SHA-256)"] = sha256_of_file(settings.sparse_attention_mask_file);
  for (const auto& [name, value] : settings_kept_for_resume(settings))
    if (on_resume(name) == OnResume::kSame) identity[name] = value;
  return identity;
}

Json run_conditions(const TrainContext& context, int64_t total_steps) {
  Json conditions = {{"world_size", context.world.size()},
                     {"threads_per_rank", at::get_num_threads()},
                     {"cpu_capability", at::get_cpu_capability()},
                     {"torch", TORCH_VERSION},
                     {"total_steps", total_steps}};
  for (const auto& [name, value] : settings_kept_for_resume(context.settings.values))
    if (on_resume(name) == OnResume::kRemark) conditions[name] = value;
  return conditions;
}

void check_same_run(const Json& saved, const Json& identity, const Json& conditions, const fs::path& folder,
                    Logger& logger) {
  if (!saved.is_object() || !saved.contains("identity") || !saved.contains("conditions") ||
      !saved.at("identity").is_object() || !saved.at("conditions").is_object())
    throw UserError(str(folder.string(), ": not a training state of this program"));
  const Differences same = compare(saved.at("identity"), identity);
  if (!same.values.empty())
    throw UserError(
        str(folder.string(),
            " belongs to a run with other data, another order of them or another model: ", same.values,
            ". Use the same settings and files; or start anew with --overwrite_output_dir; or "
            "take its weights alone, with --model_name_or_path ",
            folder.string(), " and another output_dir"));
  if (!same.unknown.empty())
    logger.warning(
        str("the checkpoint was written by an older version and does not say whether these are the same: ",
            same.unknown));
  const Differences remarks = compare(saved.at("conditions"), conditions);
  if (!remarks.values.empty())
    logger.warning(str("the checkpoint was written under other conditions: ", remarks.values,
                       "; the run goes on, its course or its bits may differ from those of an unbroken one"));
}

}  // namespace ithaca
