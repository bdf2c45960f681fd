// V vocabulary, C hidden, I intermediate, H query heads, K kv heads, D head size.
#include "ithaca/checkpoint/model_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "ithaca/base/error.h"
#include "ithaca/base/limits.h"
#include "ithaca/checkpoint/gguf.h"
#include "ithaca/checkpoint/problem_list.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kBase = "model.";

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += str(text.size() > 1 ? ", " : "", size);
  return text + "]";
}

bool is_float(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// Buffers that older files keep and that are computed anew.
constexpr std::array kKnownBuffers = {"rotary_emb.inv_freq", "rotary_emb.cos_cached",
                                      "rotary_emb.sin_cached"};

bool is_known_buffer(const std::string& name) {
  return std::ranges::any_of(kKnownBuffers, [&](const char* buffer) { return name.ends_with(buffer); });
}

void add_layer(const ModelConfig& c, int64_t index, std::vector<WantedTensor>& list) {
  const std::string layer = str("model.layers.", index, ".");
  const int64_t q_rows = c.num_attention_heads * c.head_dim, kv_rows = c.num_key_value_heads * c.head_dim;
  const auto linear = [&](const char* name, int64_t out, int64_t in, bool bias, const char* keys) {
    list.push_back({layer + name + ".weight", {out, in}, keys});
    if (bias) list.push_back({layer + name + ".bias", {out}, keys});
  };
  constexpr const char* kQuery = "num_attention_heads x head_dim, hidden_size";
  constexpr const char* kKey = "num_key_value_heads x head_dim, hidden_size";
  constexpr const char* kMlp = "intermediate_size, hidden_size";
  linear("self_attn.q_proj", q_rows, c.hidden_size, c.attention_bias, kQuery);
  linear("self_attn.k_proj", kv_rows, c.hidden_size, c.attention_bias, kKey);
  linear("self_attn.v_proj", kv_rows, c.hidden_size, c.attention_bias, kKey);
  linear("self_attn.o_proj", c.hidden_size, q_rows, c.attention_bias, kQuery);
  linear("mlp.gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias, kMlp);
  linear("mlp.up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias, kMlp);
  linear("mlp.down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias, kMlp);
  list.push_back({layer + "input_layernorm.weight", {c.hidden_size}, "hidden_size"});
  list.push_back({layer + "post_attention_layernorm.weight", {c.hidden_size}, "hidden_size"});
}

// Elements [begin, begin + out.size()) as float32, which is what the weights become.
void read_floats(const WeightFiles::Tensor& tensor, std::size_t begin, std::span<float> out) {
  const std::size_t size = dtype_size(tensor.info->dtype);
  const std::span<const std::byte> bytes =
      tensor.file->data(*tensor.info).subspan(begin * size, out.size() * size);
  switch (tensor.info->dtype) {
    case DType::kF16:
      return dequantize(GgmlType::kF16, bytes, out);
    case DType::kBF16:
      return dequantize(GgmlType::kBF16, bytes, out);
    case DType::kF32:
      return dequantize(GgmlType::kF32, bytes, out);
    default:
      break;
  }
  ITHACA_CHECK(tensor.info->dtype == DType::kF64, dtype_name(tensor.info->dtype));
  for (std::size_t i = 0; i < out.size(); ++i) {
    double value = 0;
    std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
    out[i] = static_cast<float>(value);
  }
}

bool same_values(const WeightFiles::Tensor& a, const WeightFiles::Tensor& b) {
  if (a.info->shape != b.info->shape) return false;
  const std::span<const std::byte> a_bytes = a.file->data(*a.info), b_bytes = b.file->data(*b.info);
  if (a.info->dtype == b.info->dtype && std::ranges::equal(a_bytes, b_bytes)) return true;
  constexpr std::size_t kAtOnce = 1 << 16;
  const std::size_t elements = a_bytes.size() / dtype_size(a.info->dtype);
  std::vector<float> a_floats(std::min(elements, kAtOnce)), b_floats(a_floats.size());
  for (std::size_t begin = 0; begin < elements; begin += kAtOnce) {
    const std::size_t count = std::min(kAtOnce, elements - begin);
    read_floats(a, begin, std::span(a_floats).first(count));
    read_floats(b, begin, std::span(b_floats).first(count));
    if (!std::equal(a_floats.begin(), a_floats.begin() + static_cast<std::ptrdiff_t>(count),
                    b_floats.begin()))
      return false;
  }
  return true;
}

std::string missing(const WantedTensor& wanted, const ModelConfig& config, const WeightFiles& weights) {
  std::string text = str("tensor ", wanted.name, " is missing");
  const std::string why = weights.why_missing(wanted.name);
  if (!why.empty()) text += str(" (", why, ")");
  if (wanted.name == kHead)
    text += ": config.json says tie_word_embeddings false; set it to true if the head is the embedding";
  else if (wanted.name.find(".layers.") != std::string::npos)
    text += str("; config.json says num_hidden_layers ", config.num_hidden_layers);
  return text;
}

}  // namespace

std::vector<WantedTensor> wanted_tensors(const ModelConfig& config) {
  std::vector<WantedTensor> list;
  list.push_back({kEmbedding, {config.vocab_size, config.hidden_size}, "vocab_size, hidden_size"});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) add_layer(config, i, list);
  list.push_back({"model.norm.weight", {config.hidden_size}, "hidden_size"});
  if (!config.tie_word_embeddings)
    list.push_back({kHead, {config.vocab_size, config.hidden_size}, "vocab_size, hidden_size"});
  return list;
}

const WeightFiles::Tensor* find_source(const WeightFiles& weights, const std::string& parameter, bool tied) {
  const auto find = [&](const std::string& name) {
    const auto found = weights.tensors().find(name);
    return found == weights.tensors().end() ? nullptr : &found->second;
  };
  if (const auto* tensor = find(parameter)) return tensor;
  if (parameter.starts_with(kBase))
    if (const auto* tensor = find(parameter.substr(kBase.size()))) return tensor;
  return tied && parameter == kEmbedding ? find(kHead) : nullptr;
}

void check_weights(const ModelConfig& config, const WeightFiles& weights, const fs::path& folder) {
  ProblemList problems;
  std::set<const WeightFiles::Tensor*> used;
  for (const WantedTensor& wanted : wanted_tensors(config)) {
    const WeightFiles::Tensor* tensor = find_source(weights, wanted.name, config.tie_word_embeddings);
    if (!tensor) {
      problems.add(missing(wanted, config, weights));
      continue;
    }
    used.insert(tensor);
    if (tensor->info->shape != wanted.shape)
      problems.add(str("tensor ", wanted.name, " has shape ", shape_text(tensor->info->shape),
                       ", config.json says ", shape_text(wanted.shape), " (", wanted.keys, ")"));
    if (!is_float(tensor->info->dtype))
      problems.add(str("tensor ", wanted.name, " has dtype ", dtype_name(tensor->info->dtype),
                       ", expected F32, BF16, F16 or F64"));
  }
  for (const auto& [name, tensor] : weights.tensors()) {
    const bool tied_head = name == kHead && config.tie_word_embeddings;
    if (!used.count(&tensor) && !tied_head && !is_known_buffer(name))
      problems.add(str("tensor ", name, " is not part of this model"));
  }
  problems.throw_if_any(
      str(folder.string(), ": the weights do not fit the model that config.json describes:"));
}

void untie_if_heads_differ(ModelConfig& config, const WeightFiles& weights, const fs::path& folder) {
  if (!config.tie_word_embeddings) return;
  const WeightFiles::Tensor* embedding = find_source(weights, kEmbedding, true);
  const auto head = weights.tensors().find(kHead);
  if (!embedding || head == weights.tensors().end() || embedding == &head->second) return;
  if (!is_float(embedding->info->dtype) || !is_float(head->second.info->dtype) ||
      same_values(*embedding, head->second))
    return;
  config.tie_word_embeddings = false;
  config.notes.push_back(str(folder.string(),
                             ": tie_word_embeddings is true, but lm_head.weight differs from the "
                             "embedding: they are not tied, as in transformers"));
}

std::string weights_markdown() {
  ModelConfig config;
  config.num_hidden_layers = 1;
  config.attention_bias = config.mlp_bias = true;
  std::string text =
      "## Tensors in the weights\n\nFor each layer; names without `model.`, as of a base model, serve as "
      "well. Shapes are "
      "compared with config.json before anything is built.\n\n| tensor | | |\n|---|---|---|\n";
  for (const WantedTensor& tensor : wanted_tensors(config))
    text +=
        str("| `", tensor.name, "` | used",
            tensor.name.ends_with(".bias") ? ", where config.json says so" : "", " | ", tensor.keys, " |\n");
  for (const char* buffer : kKnownBuffers)
    text += str("| `*", buffer, "` | harmless | of older files; computed anew |\n");
  return text +
         "| any other | refused | it is named |\n\nWhere `tie_word_embeddings` is true, `lm_head.weight` may "
         "be absent or "
         "equal to the embedding, or be there in its stead; where it differs, the model is not tied. Where "
         "it is false, "
         "`lm_head.weight` must be there. An index may list tensors that nobody needs and no file holds.\n";
}

ModelConfig read_checked_config(const Settings& settings, bool weights_needed) {
  const fs::path folder = model_folder(settings);
  ModelConfig config = read_model_config(folder);
  const bool there = fs::exists(folder / kWeightsFile) || fs::exists(folder / kWeightsIndex);
  if (!settings.train_from_scratch && !there && !weights_needed) {
    config.notes.push_back(str(folder.string(), ": no weights are there to compare config.json with"));
  } else if (!settings.train_from_scratch) {
    const WeightFiles weights = WeightFiles::open(folder);
    untie_if_heads_differ(config, weights, folder);
    check_weights(config, weights, folder);
  }
  return config;
}

void check_memory(const ModelConfig& config, const Settings& settings) {
  const int64_t parameters = count_parameters(config);
  const int64_t weights = parameters * (settings.bf16 ? 2 : 4);
  const MemoryLimits limits = memory_limits();
  const uint64_t limit = std::min(limits.total(), limits.process.value_or(limits.total()));
  if (static_cast<uint64_t>(weights) <= limit) return;
  throw UserError(str((model_folder(settings) / "config.json").string(), ": describes a model of ",
                      parameters, " parameters (vocab_size ", config.vocab_size, ", hidden_size ",
                      config.hidden_size, ", intermediate_size ", config.intermediate_size,
                      ", num_hidden_layers ", config.num_hidden_layers, "), whose weights need ",
                      size_text(static_cast<uint64_t>(weights)), " a rank; ", limits.words(limit),
                      ". Mend the sizes, or choose a smaller model", settings.bf16 ? "" : " or bf16"));
}

}  // namespace ithaca
