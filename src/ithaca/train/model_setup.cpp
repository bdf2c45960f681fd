#include "ithaca/train/model_setup.h"

#include <ATen/ops/full.h>

#include <cstdlib>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/hf_folder.h"
#include "ithaca/checkpoint/model_weights.h"
#include "ithaca/config/attention_settings.h"

namespace fs = std::filesystem;

namespace ithaca {

fs::path token_cache_dir(const Settings& settings) {
  if (!settings.cache_dir.empty()) return settings.cache_dir;
  if (const char* cache = std::getenv("ITHACA_CACHE")) return fs::path(cache) / "tokens";
  const char* home = std::getenv("HOME");
  return fs::path(home ? home : ".") / ".cache" / "ithaca" / "tokens";
}

ModelConfig read_run_config(const Settings& settings) {
  ModelConfig config = read_checked_config(settings);
  check_memory(config, settings);
  return config;
}

std::unique_ptr<Decoder> load_decoder(const Settings& settings, const ModelConfig& config) {
  std::unique_ptr<Decoder> decoder = build_decoder(config, settings.bf16 ? at::kBFloat16 : at::kFloat);
  decoder->pattern = attention_pattern(settings, config);
  decoder->config.sliding_window = decoder->pattern.window;
  decoder->config.alibi = !decoder->pattern.alibi_slopes.empty();
  if (settings.train_from_scratch) {
    initialize_weights(*decoder, static_cast<uint64_t>(settings.seed));
  } else {
    load_weights(*decoder, model_folder(settings));
  }
  return decoder;
}

AttentionPattern attention_pattern(const Settings& settings, const ModelConfig& config) {
  AttentionPattern pattern;
  pattern.causal = settings.causal;
  pattern.window = sliding_window_of(settings, config);
  if (uses_alibi(settings, config)) pattern.alibi_slopes = alibi_slopes(config.num_attention_heads);
  if (settings.sparse_attention_mode != "dense") {
    pattern.sparse.block = settings.sparse_attention_block;
    if (settings.sparse_attention_mode == "fixed") {
      pattern.sparse.num_local_blocks = settings.sparse_attention_num_local_blocks;
      pattern.sparse.num_global_blocks = settings.sparse_attention_num_global_blocks;
    } else {
      BlockMask mask = read_block_mask(settings.sparse_attention_mask_file);
      pattern.sparse.mask_blocks = mask.blocks;
      pattern.sparse.mask = std::move(mask.allowed);
    }
  }
  return pattern;
}

std::string export_remark(const Settings& settings, const Decoder& decoder) {
  std::string unknown;
  const auto add = [&](bool set, const std::string& what) {
    if (set) unknown += (unknown.empty() ? "" : ", ") + what;
  };
  add(decoder.config.alibi, "ALiBi");
  add(decoder.pattern.window > 0 && decoder.config.architecture != "MistralForCausalLM",
      "the sliding window");
  add(decoder.pattern.sparse.enabled(), "sparse attention");
  add(!settings.causal, "attention that is not causal");
  if (unknown.empty()) return "";
  return str("transformers will read the output folder without ", unknown,
             "; here, give `ithaca eval` and `ithaca generate` the same settings");
}

ParallelPlan plan_run(const Settings& settings, const ModelConfig& config, const RankEnvironment& environment,
                      Communicator& world, Logger& logger) {
  at::Tensor ranks_per_node = at::full({1}, environment.local_world_size, at::kLong);
  world.all_reduce(ranks_per_node, ReduceOp::kMax);
  const SequencePlan sequence = plan_sequence(settings, config, ranks_per_node.item<int64_t>());
  if (settings.sequence_parallel_size > 1)
    logger.info(str("sequence parallel: ", sequence.title(), ": ", sequence.reason));
  return make_plan(settings, sequence, world.size());
}

double training_flops(const Decoder& decoder, int64_t tokens, double sum_of_squared_lengths) {
  const ModelConfig& c = decoder.config;
  const double attention_width = static_cast<double>(c.num_attention_heads * c.head_dim);
  const double kv_width = static_cast<double>(c.num_key_value_heads * c.head_dim);
  const double hidden = static_cast<double>(c.hidden_size);
  const double per_layer =
      hidden * (2 * attention_width + 2 * kv_width) + 3 * hidden * static_cast<double>(c.intermediate_size);
  const double layers = static_cast<double>(c.num_hidden_layers);
  const double matrices = layers * per_layer + hidden * static_cast<double>(c.vocab_size);
  return 6 * matrices * static_cast<double>(tokens) + 6 * layers * attention_width * sum_of_squared_lengths;
}

}  // namespace ithaca
