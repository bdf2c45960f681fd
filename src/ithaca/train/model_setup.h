// From settings to a decoder with weights.
#pragma once
#include <filesystem>
#include <memory>

#include "ithaca/base/log.h"
#include "ithaca/config/settings.h"
#include "ithaca/launch/environment.h"
#include "ithaca/models/registry.h"
#include "ithaca/parallel/plan.h"

namespace ithaca {

// Where tokenised data is kept: cache_dir, or tokens/ in $ITHACA_CACHE or ~/.cache/ithaca.
std::filesystem::path token_cache_dir(const Settings& settings);

// read_checked_config and check_memory of checkpoint/model_weights.h.
ModelConfig read_run_config(const Settings& settings);

// Its pattern is attention_pattern. Weights from the folder in the run's dtype (bfloat16 where bf16, else float32), or drawn from the seed
// where train_from_scratch.
std::unique_ptr<Decoder> load_decoder(const Settings& settings, const ModelConfig& config);

// The attention pattern of settings over config.json. UserError names the mask file where it is bad.
AttentionPattern attention_pattern(const Settings& settings, const ModelConfig& config);

// What a reader of the output folder must know that its config.json cannot say to transformers; empty: nothing.
std::string export_remark(const Settings& settings, const Decoder& decoder);

// Degrees and methods of a run; says which and why in the log. Collective: nodes may differ in their number of
// ranks, the largest counts.
ParallelPlan plan_run(const Settings& settings, const ModelConfig& config, const RankEnvironment& environment,
                      Communicator& world, Logger& logger);

// Floating-point operations of one training step's forward and backward, recomputation not counted: 6 per
// weight of a matrix and token, plus attention, causal counted once: 6 H D sum(length^2) a layer over the
// documents.
double training_flops(const Decoder& decoder, int64_t tokens, double sum_of_squared_lengths);

}  // namespace ithaca
