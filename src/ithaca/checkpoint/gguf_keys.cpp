#include "ithaca/checkpoint/gguf_keys.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "ithaca/base/json.h"
#include "ithaca/checkpoint/problem_list.h"

namespace ithaca {
namespace {

constexpr KeyUse kUsed = KeyUse::kUsed;
constexpr KeyUse kHarmless = KeyUse::kHarmless;
constexpr KeyUse kRefused = KeyUse::kRefused;

constexpr const char* kExperts = "mixtures of experts are not supported";
constexpr const char* kOther = "Hugging Face's Llama has nothing of the kind";
constexpr const char* kRole = "a token's role that text generation does not ask for";
constexpr const char* kWords = "a record, for people";

constexpr FileKey kKeys[] = {
    {"general.architecture", kUsed, "llama; others are refused"},
    {"general.alignment", kUsed, "of tensors in the file"},
    {"split.no", kUsed, "which part of a split file this is"},
    {"split.count", kUsed, "how many parts there are; they are found by their names and joined"},
    {"split.tensors.count", kUsed, "checked"},
    {"llama.block_count", kUsed, "L"},
    {"llama.embedding_length", kUsed, "C"},
    {"llama.feed_forward_length", kUsed, "I"},
    {"llama.attention.head_count", kUsed, "query heads"},
    {"llama.attention.head_count_kv", kUsed, "kv heads; absent: as many as query heads"},
    {"llama.attention.key_length", kUsed, "D; absent: C / query heads"},
    {"llama.attention.value_length", kUsed, "checked: another size than the keys' is refused"},
    {"llama.attention.layer_norm_rms_epsilon", kUsed, "of every norm"},
    {"llama.attention.scale", kUsed, "checked: 0 or 1 / sqrt(D), others are refused"},
    {"llama.context_length", kUsed, "max_position_embeddings"},
    {"llama.vocab_size", kUsed, "checked: the rows of the embedding"},
    {"llama.rope.freq_base", kUsed, "rope_theta; absent: 10000"},
    {"llama.rope.dimension_count", kUsed, "checked: D, others are refused"},
    {"llama.rope.scaling.type", kUsed,
     "none, linear, yarn; absent: linear, as in llama.cpp; others are refused"},
    {"llama.rope.scaling.factor", kUsed, "of linear and yarn; absent or 0: no scaling"},
    {"llama.rope.scale_linear", kUsed, "the older name of rope.scaling.factor"},
    {"llama.rope.scaling.original_context_length", kUsed, "of yarn"},
    {"llama.rope.scaling.yarn_beta_fast", kUsed, "of yarn"},
    {"llama.rope.scaling.yarn_beta_slow", kUsed, "of yarn"},
    {"tokenizer.ggml.model", kUsed, "gpt2, llama; others are refused"},
    {"tokenizer.ggml.pre", kUsed, "how text is split before byte-level merges; unknown ones are refused"},
    {"tokenizer.ggml.tokens", kUsed, "the vocabulary"},
    {"tokenizer.ggml.token_type", kUsed, "which tokens are control, user defined, bytes"},
    {"tokenizer.ggml.scores", kUsed, "SentencePiece's order of merges, where none are listed"},
    {"tokenizer.ggml.merges", kUsed, "merges"},
    {"tokenizer.ggml.bos_token_id", kUsed, "bos_token"},
    {"tokenizer.ggml.eos_token_id", kUsed, "eos_token"},
    {"tokenizer.ggml.eot_token_id", kUsed, "an end token of generation_config.json"},
    {"tokenizer.ggml.eom_token_id", kUsed, "an end token of generation_config.json"},
    {"tokenizer.ggml.unknown_token_id", kUsed, "unk_token"},
    {"tokenizer.ggml.padding_token_id", kUsed, "pad_token"},
    {"tokenizer.ggml.add_bos_token", kUsed, "in front of every text"},
    {"tokenizer.ggml.add_eos_token", kUsed, "behind every text"},
    {"tokenizer.ggml.add_space_prefix", kUsed, "of SentencePiece; byte-level vocabularies add none"},
    {"tokenizer.chat_template", kUsed, "chat_template"},
    {"general.type", kRefused, "adapters and other parts are no model"},
    {"adapter.*", kRefused, "adapters are no model"},
    {"llama.attention.causal", kRefused, "attention that is not causal", Unless::kTrue},
    {"llama.attention.sliding_window", kRefused, "a window that Hugging Face's Llama has not", Unless::kZero},
    {"llama.attention.sliding_window_pattern", kRefused, kOther, Unless::kZero},
    {"llama.attention.clamp_kqv", kRefused, kOther, Unless::kZero},
    {"llama.attention.max_alibi_bias", kRefused, "ALiBi; Hugging Face's Llama has rotary embedding",
     Unless::kZero},
    {"llama.attention.output_scale", kRefused, kOther, Unless::kZeroOrOne},
    {"llama.attention.temperature_scale", kRefused, kOther, Unless::kZero},
    {"llama.attention.temperature_length", kRefused, kOther, Unless::kZero},
    {"llama.attention.shared_kv_layers", kRefused, kOther, Unless::kZero},
    {"llama.attention.q_lora_rank", kRefused, kOther, Unless::kZero},
    {"llama.attention.kv_lora_rank", kRefused, kOther, Unless::kZero},
    {"llama.attention.decay_lora_rank", kRefused, kOther, Unless::kZero},
    {"llama.attention.iclr_lora_rank", kRefused, kOther, Unless::kZero},
    {"llama.attention.value_residual_mix_lora_rank", kRefused, kOther, Unless::kZero},
    {"llama.attention.gate_lora_rank", kRefused, kOther, Unless::kZero},
    {"llama.attention.relative_buckets_count", kRefused, kOther, Unless::kZero},
    {"llama.attention.key_length_mla", kRefused, kOther, Unless::kZero},
    {"llama.attention.value_length_mla", kRefused, kOther, Unless::kZero},
    {"llama.attention.key_length_swa", kRefused, kOther, Unless::kZero},
    {"llama.attention.value_length_swa", kRefused, kOther, Unless::kZero},
    {"llama.attention.group_norm_epsilon", kRefused, kOther, Unless::kZero},
    {"llama.attention.group_norm_groups", kRefused, kOther, Unless::kZero},
    {"llama.attention.indexer.*", kRefused, kOther, Unless::kZero},
    {"llama.rope.scaling.attn_factor", kRefused, "a factor of attention beside yarn's own",
     Unless::kZeroOrOne},
    {"llama.rope.scaling.alpha", kRefused, kOther, Unless::kZero},
    {"llama.rope.scaling.yarn_log_multiplier", kRefused, kOther, Unless::kZero},
    {"llama.rope.scaling.yarn_ext_factor", kRefused, "a part of yarn only", Unless::kOne},
    {"llama.rope.scaling.yarn_attn_factor", kRefused, "a factor of attention beside yarn's own",
     Unless::kOne},
    {"llama.rope.dimension_sections", kRefused, "rotary embedding in sections is not supported",
     Unless::kZero},
    {"llama.rope.dimension_count_swa", kRefused, kOther, Unless::kZero},
    {"llama.rope.freq_base_swa", kRefused, kOther, Unless::kZero},
    {"llama.expert_count", kRefused, kExperts, Unless::kZero},
    {"llama.expert_used_count", kRefused, kExperts, Unless::kZero},
    {"llama.expert_shared_count", kRefused, kExperts, Unless::kZero},
    {"llama.expert_*", kRefused, kExperts, Unless::kZero},
    {"llama.experts_per_group", kRefused, kExperts, Unless::kZero},
    {"llama.moe_*", kRefused, kExperts, Unless::kZero},
    {"llama.interleave_moe_layer_step", kRefused, kExperts, Unless::kZero},
    {"llama.leading_dense_block_count", kRefused, kExperts, Unless::kZero},
    {"llama.router_logit_softcapping", kRefused, kExperts, Unless::kZero},
    {"llama.logit_scale", kRefused, kOther, Unless::kZeroOrOne},
    {"llama.residual_scale", kRefused, kOther, Unless::kZeroOrOne},
    {"llama.embedding_scale", kRefused, kOther, Unless::kZeroOrOne},
    {"llama.attn_logit_softcapping", kRefused, kOther, Unless::kZero},
    {"llama.final_logit_softcapping", kRefused, kOther, Unless::kZero},
    {"llama.use_parallel_residual", kRefused, kOther, Unless::kFalse},
    {"llama.swin_norm", kRefused, kOther, Unless::kFalse},
    {"llama.rescale_every_n_layers", kRefused, kOther, Unless::kZero},
    {"llama.time_mix_extra_dim", kRefused, kOther, Unless::kZero},
    {"llama.time_decay_extra_dim", kRefused, kOther, Unless::kZero},
    {"llama.token_shift_count", kRefused, kOther, Unless::kZero},
    {"llama.full_attention_interval", kRefused, kOther, Unless::kZero},
    {"llama.activation_sparsity_scale", kRefused, kOther, Unless::kZero},
    {"llama.altup.*", kRefused, kOther, Unless::kZero},
    {"llama.embedding_length_per_layer_input", kRefused, kOther, Unless::kZero},
    {"llama.swiglu_clamp_exp", kRefused, kOther, Unless::kZero},
    {"llama.swiglu_clamp_shexp", kRefused, kOther, Unless::kZero},
    {"llama.nextn_predict_layers", kRefused, kOther, Unless::kZero},
    {"llama.n_deepstack_layers", kRefused, kOther, Unless::kZero},
    {"llama.decoder_start_token_id", kRefused, kOther},
    {"llama.decoder_block_count", kRefused, kOther, Unless::kZero},
    {"llama.embedding_length_out", kRefused, kOther, Unless::kZero},
    {"llama.features_length", kRefused, kOther, Unless::kZero},
    {"llama.ssm.*", kRefused, kOther, Unless::kZero},
    {"llama.kda.*", kRefused, kOther, Unless::kZero},
    {"llama.wkv.*", kRefused, kOther, Unless::kZero},
    {"llama.posnet.*", kRefused, kOther, Unless::kZero},
    {"llama.convnext.*", kRefused, kOther, Unless::kZero},
    {"llama.shortconv.*", kRefused, kOther, Unless::kZero},
    {"llama.classifier.output_labels", kRefused, "a classifier's head", Unless::kEmpty},
    {"llama.dense_2_feat_in", kRefused, kOther, Unless::kZero},
    {"llama.dense_2_feat_out", kRefused, kOther, Unless::kZero},
    {"llama.dense_3_feat_in", kRefused, kOther, Unless::kZero},
    {"llama.dense_3_feat_out", kRefused, kOther, Unless::kZero},
    {"diffusion.*", kRefused, "models that do not go from left to right"},
    {"xielu.*", kRefused, "another activation"},
    {"clip.*", kRefused, "a model of images or sound"},
    {"tokenizer.ggml.precompiled_charsmap", kRefused, "SentencePiece's own normalisation is not supported",
     Unless::kEmpty},
    {"tokenizer.ggml.add_sep_token", kRefused, "texts in pairs", Unless::kFalse},
    {"llama.attention.layer_norm_epsilon", kHarmless, "llama.cpp's Llama takes the one of RMSNorm"},
    {"llama.pooling_type", kHarmless, "of embeddings of texts, not of the next token"},
    {"llama.tensor_data_layout", kHarmless, kWords},
    {"llama.rope.scaling.finetuned", kHarmless, kWords},
    {"general.*", kHarmless, "records, for people, and hints for sampling"},
    {"quantize.*", kHarmless, kWords},
    {"imatrix.*", kHarmless, kWords},
    {"tokenizer.ggml.seperator_token_id", kHarmless, kRole},
    {"tokenizer.ggml.cls_token_id", kHarmless, kRole},
    {"tokenizer.ggml.mask_token_id", kHarmless, kRole},
    {"tokenizer.ggml.fim_*", kHarmless, kRole},
    {"tokenizer.ggml.prefix_token_id", kHarmless, kRole},
    {"tokenizer.ggml.suffix_token_id", kHarmless, kRole},
    {"tokenizer.ggml.middle_token_id", kHarmless, kRole},
    {"tokenizer.ggml.token_type_count", kHarmless, "of BERT"},
    {"tokenizer.ggml.remove_extra_whitespaces", kHarmless, "llama.cpp reads it for unigram models only"},
    {"tokenizer.ggml.added_tokens", kHarmless, "token_type says it"},
    {"tokenizer.huggingface.json", kHarmless, "llama.cpp does not read it"},
    {"tokenizer.rwkv.world", kHarmless, "of RWKV"},
    {"tokenizer.chat_templates", kHarmless, "names of further templates"},
    {"tokenizer.chat_template.*", kHarmless, "further templates; the one without a name is taken"},
};

// Arrays come as an empty one.
Json scalar(const GgufValue& value) {
  return std::visit(
      [](const auto& held) -> Json {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, bool> || std::is_arithmetic_v<Held> ||
                      std::is_same_v<Held, std::string>)
          return held;
        else
          return Json::array();
      },
      value);
}

template <class T>
bool all_change_nothing(Unless unless, const std::vector<T>& values) {
  return std::ranges::all_of(values, [&](const T& value) { return changes_nothing(unless, Json(value)); });
}

bool value_changes_nothing(const FileKey& key, const GgufValue& value) {
  if (std::string_view(key.name) == "general.type") {
    const auto* text = std::get_if<std::string>(&value);
    return text && *text == "model";
  }
  if (const auto* list = std::get_if<std::vector<int64_t>>(&value))
    return all_change_nothing(key.unless, *list);
  if (const auto* list = std::get_if<std::vector<double>>(&value))
    return all_change_nothing(key.unless, *list);
  if (const auto* list = std::get_if<std::vector<std::string>>(&value)) return list->empty();
  return changes_nothing(key.unless, scalar(value));
}

std::string shown(const GgufValue& value) {
  const Json json = scalar(value);
  if (json.is_array()) return "a list";
  return json.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60);
}

}  // namespace

std::span<const FileKey> gguf_keys() {
  return kKeys;
}

std::string check_gguf_keys(const GgufHeader& header, const std::string& source) {
  ProblemList problems;
  std::vector<std::string> unknown;
  for (const auto& [name, value] : header.metadata) {
    const FileKey* key = find_key(kKeys, name);
    if (!key) unknown.push_back(name);
    if (!key || key->use != KeyUse::kRefused || value_changes_nothing(*key, value)) continue;
    const std::string accepted = accepted_values(key->unless);
    problems.add(str("key ", name, " is ", shown(value), "; ",
                     accepted.empty() ? "" : str("expected ", accepted, ": "), key->remark));
  }
  problems.throw_if_any(str(source, ": asks for what the Hugging Face folder cannot say:"));
  return unknown_keys_note(source, unknown, "llama.cpp reads no such key of a llama file");
}

std::string gguf_keys_markdown() {
  return str("## GGUF metadata (`ithaca convert`)\n\n", keys_markdown(kKeys));
}

}  // namespace ithaca
