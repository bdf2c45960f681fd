#include "ithaca/train/model_setup.h"

#include <cstdlib>

#include "ithaca/checkpoint/hf_folder.h"

namespace fs = std::filesystem;

namespace ithaca {

fs::path token_cache_dir(const Settings& settings) {
  if (!settings.cache_dir.empty()) return settings.cache_dir;
  if (const char* cache = std::getenv("ITHACA_CACHE")) return fs::path(cache) / "tokens";
  const char* home = std::getenv("HOME");
  return fs::path(home ? home : ".") / ".cache" / "ithaca" / "tokens";
}

ModelConfig read_run_config(const Settings& settings) {
  return read_model_config(model_folder(settings));
}

std::unique_ptr<Decoder> load_decoder(const Settings& settings, const ModelConfig& config) {
  std::unique_ptr<Decoder> decoder = build_decoder(config, settings.bf16 ? at::kBFloat16 : at::kFloat);
  if (settings.train_from_scratch) {
    initialize_weights(*decoder, static_cast<uint64_t>(settings.seed));
  } else {
    load_weights(*decoder, model_folder(settings));
  }
  return decoder;
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
