// From settings to a decoder with weights.
#pragma once
#include <filesystem>
#include <memory>

#include "ithaca/config/settings.h"
#include "ithaca/models/registry.h"

namespace ithaca {

// Where tokenised data is kept: cache_dir, or tokens/ in $ITHACA_CACHE or ~/.cache/ithaca.
std::filesystem::path token_cache_dir(const Settings& settings);

ModelConfig read_run_config(const Settings& settings);

// Weights from the folder in the run's dtype (bfloat16 where bf16, else float32), or drawn from the seed
// where train_from_scratch.
std::unique_ptr<Decoder> load_decoder(const Settings& settings, const ModelConfig& config);

// Floating-point operations of one training step's forward and backward, recomputation not counted: 6 per
// weight of a matrix and token, plus attention, causal counted once: 6 H D sum(length^2) a layer over the
// documents.
double training_flops(const Decoder& decoder, int64_t tokens, double sum_of_squared_lengths);

}  // namespace ithaca
