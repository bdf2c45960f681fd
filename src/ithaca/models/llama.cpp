// V vocabulary, C hidden, I intermediate, H query heads, K kv heads, D head size.
#include "ithaca/models/llama.h"

#include <ATen/ops/empty.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// Makes the parameters of one model. Storage of a tensor of its own is aligned to 64 bytes (c10::gAlignment):
// GEMM bits may depend on it.
struct Maker {
  at::TensorOptions options;

  Parameter parameter(const std::string& name, at::IntArrayRef shape) const {
    return {.name = name, .value = at::empty(shape, options), .grad = {}, .requires_grad = true};
  }
  Linear linear(const std::string& name, int64_t out, int64_t in, bool bias) const {
    Linear layer;
    layer.weight = parameter(name + ".weight", {out, in});
    if (bias) layer.bias = parameter(name + ".bias", {out});
    return layer;
  }
  RmsNorm norm(const std::string& name, const ModelConfig& config) const {
    return {.weight = parameter(name + ".weight", {config.hidden_size}), .eps = config.rms_norm_eps};
  }
};

Attention make_attention(const Maker& make, const std::string& name, const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t q_rows = config.num_attention_heads * config.head_dim,
                kv_rows = config.num_key_value_heads * config.head_dim;
  return {.q_proj = make.linear(name + ".q_proj", q_rows, hidden, config.attention_bias),
          .k_proj = make.linear(name + ".k_proj", kv_rows, hidden, config.attention_bias),
          .v_proj = make.linear(name + ".v_proj", kv_rows, hidden, config.attention_bias),
          .o_proj = make.linear(name + ".o_proj", hidden, q_rows, config.attention_bias),
          .head_dim = config.head_dim,
          .heads = HeadRange::all(config.num_attention_heads, config.num_key_value_heads),
          .core = local_attention(AttentionBackend::kAuto)};
}

GatedMlp make_mlp(const Maker& make, const std::string& name, const ModelConfig& config) {
  const int64_t hidden = config.hidden_size, intermediate = config.intermediate_size;
  return {.gate_proj = make.linear(name + ".gate_proj", intermediate, hidden, config.mlp_bias),
          .up_proj = make.linear(name + ".up_proj", intermediate, hidden, config.mlp_bias),
          .down_proj = make.linear(name + ".down_proj", hidden, intermediate, config.mlp_bias)};
}

// transformers gives this token's embedding no gradient from the input side (torch.nn.Embedding's
// padding_idx); -1: none.
int64_t padding_token(const ModelConfig& config) {
  if (config.raw == nullptr || !config.raw->is_object()) return -1;
  const auto entry = config.raw->find("pad_token_id");
  if (entry == config.raw->end() || !entry->is_number_integer()) return -1;
  const auto id = entry->get<int64_t>();
  const int64_t token = id < 0 ? id + config.vocab_size : id;  // as torch.nn.Embedding counts
  return token >= 0 && token < config.vocab_size ? token : -1;
}

}  // namespace

std::unique_ptr<Decoder> build_llama(const ModelConfig& config, at::ScalarType dtype, at::Device device) {
  const Maker make{at::TensorOptions().dtype(dtype).device(device)};
  auto decoder = std::make_unique<Decoder>();
  decoder->config = config;
  decoder->embed_tokens.weight =
      make.parameter("model.embed_tokens.weight", {config.vocab_size, config.hidden_size});
  decoder->embed_tokens.padding_idx = padding_token(config);
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string name = str("model.layers.", i);
    decoder->layers.push_back(
        {.index = i,
         .input_layernorm = make.norm(name + ".input_layernorm", config),
         .post_attention_layernorm = make.norm(name + ".post_attention_layernorm", config),
         .self_attn = make_attention(make, name + ".self_attn", config),
         .mlp = make_mlp(make, name + ".mlp", config)});
  }
  decoder->norm = make.norm("model.norm", config);
  if (!config.tie_word_embeddings)
    decoder->lm_head = make.parameter("lm_head.weight", {config.vocab_size, config.hidden_size});
  return decoder;
}

}  // namespace ithaca
