#include "ithaca/checkpoint/gguf_llama.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/gguf_keys.h"

namespace ithaca {
namespace {

constexpr int64_t kMaxSize = INT32_MAX;  // of any one number of the shape: products of two fit in int64

}  // namespace

LlamaFile::LlamaFile(const GgufFiles& files) : files_(files), metadata_(files.header, files.source) {
  for (const GgufTensor& tensor : files.header.tensors) tensors_[tensor.name] = &tensor;
  const std::string architecture = metadata_.text("general.architecture").value_or("(absent)");
  if (architecture != "llama")
    throw metadata_.bad("general.architecture",
                        str("is ", architecture, ", which is not supported; known is llama"));
  note_ = check_gguf_keys(files.header, files.source);
  read_shape();
}

double LlamaFile::rope_theta() const {
  const double theta = metadata_.real("llama.rope.freq_base").value_or(10000.0);
  if (theta <= 0.0) throw metadata_.bad("llama.rope.freq_base", "must be positive");
  return theta;
}

int64_t LlamaFile::kv_head_count() const {
  const char* key = "llama.attention.head_count_kv";
  if (!metadata_.has(key)) return shape_.heads;
  return metadata_.required_integer(key, 1, shape_.heads);
}

void LlamaFile::read_shape() {
  // a layer has nine tensors at least
  shape_.layers = metadata_.required_integer("llama.block_count", 1,
                                             static_cast<int64_t>(files_.header.tensors.size() / 9));
  shape_.hidden = metadata_.required_integer("llama.embedding_length", 1, kMaxSize);
  shape_.intermediate = metadata_.required_integer("llama.feed_forward_length", 1, kMaxSize);
  shape_.heads = metadata_.required_integer("llama.attention.head_count", 1, kMaxSize);
  shape_.kv_heads = kv_head_count();
  if (shape_.heads % shape_.kv_heads != 0)
    throw metadata_.bad("llama.attention.head_count_kv",
                        str(shape_.kv_heads, " kv heads do not divide ", shape_.heads, " heads"));
  shape_.head_dim =
      metadata_.integer("llama.attention.key_length", 2, kMaxSize).value_or(shape_.hidden / shape_.heads);
  if (shape_.head_dim < 2 || shape_.head_dim % 2 != 0)
    throw metadata_.bad("llama.attention.head_count",
                        str("gives heads of ", shape_.head_dim, " elements; expected an even size"));
  if (metadata_.integer("llama.attention.value_length", 1, kMaxSize).value_or(shape_.head_dim) !=
      shape_.head_dim)
    throw metadata_.bad("llama.attention.value_length",
                        "differs from the key length, which is not supported");
  if (metadata_.integer("llama.rope.dimension_count", 1, kMaxSize).value_or(shape_.head_dim) !=
      shape_.head_dim)
    throw metadata_.bad("llama.rope.dimension_count",
                        "differs from the head size: partial rotary embedding is not supported");
  const auto embedding = tensors_.find("token_embd.weight");
  if (embedding == tensors_.end())
    throw UserError(str(metadata_.source(), ": tensor token_embd.weight is missing"));
  shape_.vocab = embedding->second->shape.front();
  if (metadata_.integer("llama.vocab_size", 1, kMaxSize).value_or(shape_.vocab) != shape_.vocab)
    throw metadata_.bad("llama.vocab_size", str("differs from the ", shape_.vocab, " rows of the embedding"));
  const double scale = metadata_.real("llama.attention.scale").value_or(0.0);
  const double usual = 1.0 / std::sqrt(static_cast<double>(shape_.head_dim));
  if (scale != 0.0 && std::abs(scale - usual) > 1e-6 * usual)
    throw metadata_.bad("llama.attention.scale",
                        str("is ", scale, ", which is not supported; expected ", usual));
}

void LlamaFile::add(const std::string& gguf, const std::string& name, const std::vector<int64_t>& shape,
                    int64_t permuted_heads) {
  const auto found = tensors_.find(gguf);
  if (found == tensors_.end()) return problems_.add(str("tensor ", gguf, " is missing"));
  used_.insert(gguf);
  const auto text = [](const std::vector<int64_t>& sizes) {
    std::string list;
    for (const int64_t size : sizes) list += str(list.empty() ? "[" : ", ", size);
    return list + "]";
  };
  if (found->second->shape != shape)
    return problems_.add(
        str("tensor ", gguf, " has shape ", text(found->second->shape), ", expected ", text(shape)));
  mappings_.push_back({found->second, name, permuted_heads});
}

void LlamaFile::add_layer(int64_t index) {
  const std::string from = str("blk.", index, ".");
  const std::string to = str("model.layers.", index, ".");
  const int64_t q_rows = shape_.heads * shape_.head_dim;
  const int64_t kv_rows = shape_.kv_heads * shape_.head_dim;
  // A bias is there in every layer or in none: the config says it once
  const auto linear = [&](const std::string& gguf, const std::string& name, int64_t rows, int64_t columns,
                          bool bias, int64_t heads) {
    add(from + gguf + ".weight", to + name + ".weight", {rows, columns}, heads);
    if (bias) add(from + gguf + ".bias", to + name + ".bias", {rows}, heads);
  };
  const bool attention_bias = has("blk.0.attn_q.bias");
  const bool mlp_bias = has("blk.0.ffn_up.bias");
  add(from + "attn_norm.weight", to + "input_layernorm.weight", {shape_.hidden});
  linear("attn_q", "self_attn.q_proj", q_rows, shape_.hidden, attention_bias, shape_.heads);
  linear("attn_k", "self_attn.k_proj", kv_rows, shape_.hidden, attention_bias, shape_.kv_heads);
  linear("attn_v", "self_attn.v_proj", kv_rows, shape_.hidden, attention_bias, 0);
  linear("attn_output", "self_attn.o_proj", shape_.hidden, q_rows, attention_bias, 0);
  add(from + "ffn_norm.weight", to + "post_attention_layernorm.weight", {shape_.hidden});
  linear("ffn_gate", "mlp.gate_proj", shape_.intermediate, shape_.hidden, mlp_bias, 0);
  linear("ffn_up", "mlp.up_proj", shape_.intermediate, shape_.hidden, mlp_bias, 0);
  linear("ffn_down", "mlp.down_proj", shape_.hidden, shape_.intermediate, mlp_bias, 0);
}

std::vector<GgufMapping> LlamaFile::map_tensors() {
  add("token_embd.weight", "model.embed_tokens.weight", {shape_.vocab, shape_.hidden});
  for (int64_t layer = 0; layer < shape_.layers; ++layer) add_layer(layer);
  add("output_norm.weight", "model.norm.weight", {shape_.hidden});
  if (has("output.weight")) add("output.weight", "lm_head.weight", {shape_.vocab, shape_.hidden});
  for (const GgufTensor& tensor : files_.header.tensors)
    if (!used_.count(tensor.name) && tensor.name != "rope_freqs.weight" &&
        !tensor.name.ends_with(".attn_rot_embd.weight"))  // of older files; llama.cpp does not read it
      problems_.add(str("tensor ", tensor.name, " has no place in a Llama model"));
  problems_.throw_if_any(
      str(metadata_.source(), ": not the tensors of the Llama model its metadata describe:"));
  return std::move(mappings_);
}

// What positions are divided by; nothing: they are not.
std::optional<double> LlamaFile::rope_factor() const {
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    const std::optional<double> factor = metadata_.real(key);
    if (!factor) continue;
    if (*factor == 0.0 || *factor == 1.0) return std::nullopt;
    if (*factor < 1.0) throw metadata_.bad(key, str("is ", *factor, "; expected a number of at least 1"));
    return factor;
  }
  return std::nullopt;
}

Json LlamaFile::rope_scaling() const {
  // llama.cpp takes an absent type for linear
  const std::string kind = metadata_.text("llama.rope.scaling.type").value_or("linear");
  if (kind == "none") return nullptr;
  if (kind != "linear" && kind != "yarn")
    throw metadata_.bad("llama.rope.scaling.type",
                        str("is ", kind, ", which is not supported; known are none, linear, yarn"));
  const std::optional<double> factor = rope_factor();
  if (kind == "linear") return factor ? Json{{"rope_type", kind}, {"factor", *factor}} : Json();
  if (!factor)
    throw metadata_.bad("llama.rope.scaling.factor", "is missing or 1, and yarn needs one above 1");
  Json scaling = {{"rope_type", kind}, {"factor", *factor}};
  if (const auto original = metadata_.integer("llama.rope.scaling.original_context_length", 1, kMaxSize))
    scaling["original_max_position_embeddings"] = *original;
  if (const auto fast = metadata_.real("llama.rope.scaling.yarn_beta_fast")) scaling["beta_fast"] = *fast;
  if (const auto slow = metadata_.real("llama.rope.scaling.yarn_beta_slow")) scaling["beta_slow"] = *slow;
  return scaling;
}

// llama.cpp keeps Llama-3.1's scaling only as the D/2 numbers that frequencies are divided by. All published
// models use low 1, high 4 and 8,192 original positions, so the factor (the largest number) is enough to
// compute them again; if that does not give the file's numbers, the parameters are unknown.
Json LlamaFile::llama3_scaling(const GgufTensor& factors) const {
  const auto refuse = [&](const std::string& why) {
    return UserError(str(metadata_.source(), ": tensor rope_freqs.weight: ", why));
  };
  if (factors.type != GgmlType::kF32 || factors.numel() != shape_.head_dim / 2)
    throw refuse(str("expected ", shape_.head_dim / 2, " float32 numbers"));
  std::vector<float> found(static_cast<std::size_t>(factors.numel()));
  dequantize(factors.type, files_.bytes(factors), found);
  constexpr double kLow = 1.0;
  constexpr double kHigh = 4.0;
  constexpr double kOriginal = 8192.0;
  const double factor = std::round(*std::max_element(found.begin(), found.end()));
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double frequency =
        std::pow(rope_theta(), -2.0 * static_cast<double>(i) / static_cast<double>(shape_.head_dim));
    const double turns = kOriginal * frequency / (2.0 * std::numbers::pi);
    const double smooth = std::clamp((turns - kLow) / (kHigh - kLow), 0.0, 1.0);
    const double expected = 1.0 / ((1.0 - smooth) / factor + smooth);
    if (!(std::abs(found[i] - expected) <= 1e-4 * expected))
      throw refuse("these frequency factors are not those of a llama3 rope type with known parameters");
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", kLow},
          {"high_freq_factor", kHigh},
          {"original_max_position_embeddings", static_cast<int64_t>(kOriginal)}};
}

void LlamaFile::add_config(Json& config) const {
  const std::optional<double> eps = metadata_.real("llama.attention.layer_norm_rms_epsilon");
  if (!eps) throw metadata_.bad("llama.attention.layer_norm_rms_epsilon", "is missing");
  const Json keys = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"vocab_size", shape_.vocab},
      {"hidden_size", shape_.hidden},
      {"intermediate_size", shape_.intermediate},
      {"num_hidden_layers", shape_.layers},
      {"num_attention_heads", shape_.heads},
      {"num_key_value_heads", shape_.kv_heads},
      {"head_dim", shape_.head_dim},
      {"max_position_embeddings", metadata_.required_integer("llama.context_length", 1, kMaxSize)},
      {"rms_norm_eps", *eps},
      {"rope_theta", rope_theta()},
      {"rope_scaling", rope_scaling()},
      {"tie_word_embeddings", !has("output.weight")},
      {"attention_bias", has("blk.0.attn_q.bias")},
      {"mlp_bias", has("blk.0.ffn_up.bias")},
      {"hidden_act", "silu"}};
  config.update(keys);
  const auto factors = tensors_.find("rope_freqs.weight");
  if (factors == tensors_.end()) return;
  if (!config["rope_scaling"].is_null())
    throw metadata_.bad(
        "llama.rope.scaling.type",
        "scales positions that the tensor rope_freqs.weight scales as well, which is not supported");
  config["rope_scaling"] = llama3_scaling(*factors->second);
}

}  // namespace ithaca
