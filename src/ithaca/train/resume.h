// Which checkpoint a run goes on from, and whether it may.
#pragma once
#include <filesystem>
#include <optional>

#include "ithaca/base/json.h"
#include "ithaca/train/trainer.h"

namespace ithaca {

// The folder to resume from, by resume_from_checkpoint: auto takes the newest whole checkpoint-N of output_dir,
// unless overwrite_output_dir; true demands one; a path is verified. Rank 0 looks and hashes, all ranks get its
// answer. What was not whole is logged. Where the run starts anew over an old one (overwrite_output_dir), the
// old checkpoints are removed. Where a path leads back, the checkpoints of output_dir that do not lie on the way
// to it are set aside (set_aside_checkpoints): a later search finds this branch. Collective. UserError where
// there is nothing to resume from.
std::optional<std::filesystem::path> choose_checkpoint(const TrainContext& context);

// What a position in the data means, and what is trained on.
struct DataIdentity {
  int64_t rows = 0, tokens = 0;
  int64_t global_batch = 0;
  std::string content;    // SHA-256 of the text
  std::string tokenizer;  // changes whenever an id could
};
// What must be the same when a run goes on: data, model, the settings marked so (OnResume::kSame).
Json run_identity(const Settings& settings, const ModelConfig& model, const DataIdentity& data);
// What bits and course depend on besides: world, threads, processor, versions, number of steps, the settings
// marked so (OnResume::kRemark). A run goes on when they differ, and says so.
Json run_conditions(const TrainContext& context, int64_t total_steps);

// `saved` is the state of the checkpoint in `folder`. UserError lists what differs in identity; a warning is
// logged (rank 0) where conditions differ, or where an older version has not recorded something.
void check_same_run(const Json& saved, const Json& identity, const Json& conditions,
                    const std::filesystem::path& folder, Logger& logger);

}  // namespace ithaca
