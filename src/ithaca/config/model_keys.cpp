#include "ithaca/config/model_keys.h"

#include <algorithm>
#include <array>
#include <vector>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr KeyUse kUsed = KeyUse::kUsed;
constexpr KeyUse kHarmless = KeyUse::kHarmless;
constexpr KeyUse kRefused = KeyUse::kRefused;

constexpr const char* kOutputs = "what a Python call returns beside the logits";
constexpr const char* kClassifier = "of classifiers";
constexpr const char* kEncoderDecoder = "of encoder-decoder models";
constexpr const char* kRecord = "a record, for people";
constexpr const char* kSpeed = "how it is computed, not what";

// Of every family.
constexpr FileKey kCommon[] = {
    {"architectures", kUsed,
     "the family, where model_type does not say it; a base model (LlamaModel) gets its head"},
    {"model_type", kUsed, "the family: llama, mistral"},
    {"vocab_size", kUsed, "rows of the embedding and of the head"},
    {"hidden_size", kUsed, "C"},
    {"intermediate_size", kUsed, "I"},
    {"num_hidden_layers", kUsed, "L"},
    {"num_attention_heads", kUsed, "query heads"},
    {"num_key_value_heads", kUsed, "kv heads; null: as many as query heads"},
    {"head_dim", kUsed, "D; absent or null: hidden_size / num_attention_heads"},
    {"max_position_embeddings", kUsed,
     "the length of dynamic and yarn rotary embedding; longer rows are remarked"},
    {"rms_norm_eps", kUsed, "of every norm"},
    {"hidden_act", kUsed, "silu, also written swish; others are refused"},
    {"initializer_range", kUsed, "of weights drawn anew (train_from_scratch)"},
    {"tie_word_embeddings", kUsed, "the head is the embedding, unless the weights hold another head"},
    {"rope_theta", kUsed,
     "base of the rotary embedding, where rope_parameters or rope_scaling does not hold it"},
    {"rope_scaling", kUsed, "below; wins over rope_parameters where it is not empty"},
    {"rope_parameters", kUsed, "below"},
    {"pad_token_id", kUsed, "its embedding gets no gradient from the input"},
    {"bos_token_id", kUsed, "carried into the output folder"},
    {"eos_token_id", kUsed,
     "ends `ithaca generate` where generation_config.json names none; ids below 0 never match"},
    {"dtype", kUsed, "checked: a float type; weights are widened to the run's type"},
    {"torch_dtype", kUsed, "the older name of dtype"},
    {"alibi", kUsed, "Ithaca's own: ALiBi in the place of rotary embedding"},
    {"layer_types", kUsed,
     "full_attention throughout, or for mistral sliding_attention throughout; mixtures are refused"},
    {"attention_dropout", kRefused, "dropout in attention is not supported", Unless::kZero},
    {"quantization_config", kRefused, "quantized weights are not supported"},
    {"compression_config", kRefused, "quantized weights are not supported"},
    {"per_layer_config", kRefused, "layers that differ are not supported", Unless::kEmpty},
    {"partial_rotary_factor", kRefused, "partial rotary embedding is not supported", Unless::kOne},
    {"rope_interleaved", kRefused, "rotary embedding turns halves, not neighbours", Unless::kFalse},
    {"is_encoder_decoder", kRefused, "only decoders are built", Unless::kFalse},
    {"add_cross_attention", kRefused, "only decoders are built", Unless::kFalse},
    {"pruned_heads", kRefused, "heads are not pruned", Unless::kEmpty},
    {"use_cache", kHarmless, kSpeed},
    {"chunk_size_feed_forward", kHarmless, kSpeed},
    {"attn_implementation", kHarmless, kSpeed},
    {"_attn_implementation", kHarmless, kSpeed},
    {"_attn_implementation_internal", kHarmless, kSpeed},
    {"_attn_implementation_autoset", kHarmless, kSpeed},
    {"_flash_attn_2_enabled", kHarmless, kSpeed},
    {"experts_implementation", kHarmless, kSpeed},
    {"_experts_implementation", kHarmless, kSpeed},
    {"_experts_implementation_internal", kHarmless, kSpeed},
    {"gradient_checkpointing", kHarmless, kSpeed},
    {"torchscript", kHarmless, kSpeed},
    {"use_bfloat16", kHarmless, kSpeed},
    {"output_hidden_states", kHarmless, kOutputs},
    {"output_attentions", kHarmless, kOutputs},
    {"return_dict", kHarmless, kOutputs},
    {"use_return_dict", kHarmless, kOutputs},
    {"tie_last_hidden_states", kHarmless, kOutputs},
    {"id2label", kHarmless, kClassifier},
    {"label2id", kHarmless, kClassifier},
    {"num_labels", kHarmless, kClassifier},
    {"problem_type", kHarmless, kClassifier},
    {"finetuning_task", kHarmless, kClassifier},
    {"classifier_dropout", kHarmless, kClassifier},
    {"is_decoder", kHarmless, "both families are decoders either way"},
    {"cross_attention_hidden_size", kHarmless, kEncoderDecoder},
    {"tie_encoder_decoder", kHarmless, kEncoderDecoder},
    {"decoder_start_token_id", kHarmless, kEncoderDecoder},
    {"sep_token_id", kHarmless, "no model of these families reads it"},
    {"tf_legacy_loss", kHarmless, "of another framework"},
    {"task_specific_params", kHarmless, "of pipelines in Python"},
    {"prefix", kHarmless, "of pipelines in Python"},
    {"tokenizer_class", kHarmless, "tokenizer.json decides"},
    {"auto_map", kHarmless, "code of the folder, which is never run"},
    {"_name_or_path", kHarmless, kRecord},
    {"name_or_path", kHarmless, kRecord},
    {"_commit_hash", kHarmless, kRecord},
    {"transformers_version", kHarmless, kRecord},
    {"transformers.js_config", kHarmless, kRecord},
    {"unsloth_version", kHarmless, kRecord},
    {"unsloth_fixed", kHarmless, kRecord},
    {"is_llama_config", kHarmless, kRecord},
    {"base_model_tp_plan", kHarmless, kSpeed},
    {"base_model_pp_plan", kHarmless, kSpeed},
};

constexpr FileKey kLlamaOnly[] = {
    {"attention_bias", kUsed, "biases of q, k, v and o"},
    {"mlp_bias", kUsed, "biases of gate, up and down"},
    {"pretraining_tp", kHarmless, "an older way to round; transformers 5 does not read it"},
};

constexpr FileKey kMistralOnly[] = {
    {"sliding_window", kUsed, "tokens; absent: 4096, null: none"},
};

constexpr FileKey kRope[] = {
    {"rope_type", kUsed, "default, linear, dynamic, llama3, yarn; others are refused"},
    {"type", kUsed, "the older name of rope_type"},
    {"rope_theta", kUsed, "base"},
    {"factor", kUsed, "of every type but default"},
    {"original_max_position_embeddings", kUsed, "llama3, yarn"},
    {"low_freq_factor", kUsed, "llama3"},
    {"high_freq_factor", kUsed, "llama3"},
    {"beta_fast", kUsed, "yarn"},
    {"beta_slow", kUsed, "yarn"},
    {"attention_factor", kUsed, "yarn"},
    {"mscale", kUsed, "yarn"},
    {"mscale_all_dim", kUsed, "yarn"},
    {"truncate", kUsed, "yarn"},
    {"partial_rotary_factor", kRefused, "partial rotary embedding is not supported", Unless::kOne},
    {"short_factor", kRefused, "longrope is not supported"},
    {"long_factor", kRefused, "longrope is not supported"},
    {"mrope_section", kRefused, "rotary embedding in sections is not supported"},
    {"full_attention", kRefused,
     "rotary embedding by layer type is not supported: write its keys one level up"},
    {"sliding_attention", kRefused,
     "rotary embedding by layer type is not supported: write its keys one level up"},
    {"finetuned", kHarmless, kRecord},
};

constexpr const char* kSampling = "of sampling; the likeliest token is taken each time";
constexpr const char* kBeams = "of beam search";
constexpr const char* kAssistant = "of assisted generation, which gives the same tokens";

constexpr FileKey kGeneration[] = {
    {"eos_token_id", kUsed, "one id or a list: generation ends with the first of them"},
    {"bos_token_id", kUsed, "carried into the output folder; the tokenizer says what comes before a prompt"},
    {"pad_token_id", kUsed, "carried into the output folder; one prompt needs no padding"},
    {"max_new_tokens", kUsed, "where the setting of that name is not given"},
    {"max_length", kUsed, "prompt and new tokens, where max_new_tokens is given nowhere"},
    {"min_new_tokens", kUsed, "no end token before as many new ones"},
    {"min_length", kUsed, "the same, prompt and new tokens"},
    {"repetition_penalty", kUsed, "on every token of the prompt and of what was generated"},
    {"no_repeat_ngram_size", kUsed, "no run of as many tokens occurs twice"},
    {"suppress_tokens", kUsed, "ids that are never generated"},
    {"begin_suppress_tokens", kUsed, "ids that are not generated first"},
    {"bad_words_ids", kUsed, "sequences of ids that are never completed"},
    {"forced_bos_token_id", kUsed, "the second token of a prompt of one token"},
    {"forced_eos_token_id", kUsed, "the last token where the length ends the text"},
    {"do_sample", kHarmless, "remarked where true: the likeliest token is taken each time"},
    {"num_beams", kRefused, "beam search is not supported", Unless::kZeroOrOne},
    {"guidance_scale", kRefused, "classifier-free guidance is not supported", Unless::kOne},
    {"sequence_bias", kRefused, "biases of sequences are not supported"},
    {"exponential_decay_length_penalty", kRefused, "this penalty is not supported"},
    {"stop_strings", kRefused, "strings that end a text are not supported; name tokens in eos_token_id",
     Unless::kEmpty},
    {"max_time", kRefused, "a limit in seconds is not supported"},
    {"penalty_alpha", kRefused, "contrastive search is not supported", Unless::kZero},
    {"dola_layers", kRefused, "DoLa is not supported"},
    {"constraints", kRefused, "constrained search is not supported"},
    {"force_words_ids", kRefused, "constrained search is not supported"},
    {"watermarking_config", kRefused, "watermarks are not supported"},
    {"token_healing", kRefused, "token healing is not supported", Unless::kFalse},
    {"force_bos_token_to_be_generated", kRefused, "write forced_bos_token_id instead", Unless::kFalse},
    {"custom_generate", kRefused, "code of the folder is never run"},
    {"temperature", kHarmless, kSampling},
    {"top_k", kHarmless, kSampling},
    {"top_p", kHarmless, kSampling},
    {"min_p", kHarmless, kSampling},
    {"top_h", kHarmless, kSampling},
    {"typical_p", kHarmless, kSampling},
    {"epsilon_cutoff", kHarmless, kSampling},
    {"eta_cutoff", kHarmless, kSampling},
    {"renormalize_logits", kHarmless, kSampling},
    {"remove_invalid_values", kHarmless, "numbers that are not finite end the run"},
    {"early_stopping", kHarmless, kBeams},
    {"length_penalty", kHarmless, kBeams},
    {"num_beam_groups", kHarmless, kBeams},
    {"diversity_penalty", kHarmless, kBeams},
    {"low_memory", kHarmless, kSpeed},
    {"num_return_sequences", kHarmless, "one text is written; copies of it would be the same"},
    {"use_mtp", kHarmless, kAssistant},
    {"is_assistant", kHarmless, kAssistant},
    {"num_assistant_tokens", kHarmless, kAssistant},
    {"num_assistant_tokens_schedule", kHarmless, kAssistant},
    {"assistant_confidence_threshold", kHarmless, kAssistant},
    {"prompt_lookup_num_tokens", kHarmless, kAssistant},
    {"max_matching_ngram_size", kHarmless, kAssistant},
    {"assistant_early_exit", kHarmless, kAssistant},
    {"assistant_lookbehind", kHarmless, kAssistant},
    {"target_lookbehind", kHarmless, kAssistant},
    {"assistant_ensemble_weight", kHarmless, kAssistant},
    {"speculation_type", kHarmless, kAssistant},
    {"use_cache", kHarmless, kSpeed},
    {"cache_implementation", kHarmless, kSpeed},
    {"cache_config", kHarmless, kSpeed},
    {"max_cache_len", kHarmless, kSpeed},
    {"return_legacy_cache", kHarmless, kSpeed},
    {"compile_config", kHarmless, kSpeed},
    {"disable_compile", kHarmless, kSpeed},
    {"prefill_chunk_size", kHarmless, kSpeed},
    {"continuous_batching_config", kHarmless, kSpeed},
    {"output_attentions", kHarmless, kOutputs},
    {"output_hidden_states", kHarmless, kOutputs},
    {"output_scores", kHarmless, kOutputs},
    {"output_logits", kHarmless, kOutputs},
    {"return_dict_in_generate", kHarmless, kOutputs},
    {"encoder_repetition_penalty", kHarmless, kEncoderDecoder},
    {"encoder_no_repeat_ngram_size", kHarmless, kEncoderDecoder},
    {"decoder_start_token_id", kHarmless, kEncoderDecoder},
    {"_from_model_config", kHarmless, kRecord},
    {"_commit_hash", kHarmless, kRecord},
    {"_original_object_hash", kHarmless, kRecord},
    {"transformers_version", kHarmless, kRecord},
    {"chat_format", kHarmless, kRecord},
    {"trust_remote_code", kHarmless, "code of the folder is never run"},
};

template <std::size_t A, std::size_t B>
constexpr std::array<FileKey, A + B> joined(const FileKey (&a)[A], const FileKey (&b)[B]) {
  std::array<FileKey, A + B> all{};
  std::copy(a, a + A, all.begin());
  std::copy(b, b + B, all.begin() + A);
  return all;
}

constexpr auto kLlama = joined(kCommon, kLlamaOnly);
constexpr auto kMistral = joined(kCommon, kMistralOnly);

}  // namespace

std::span<const FileKey> model_config_keys(const std::string& architecture) {
  if (architecture == "MistralForCausalLM") return kMistral;
  return kLlama;
}

std::span<const FileKey> rope_keys() {
  return kRope;
}

std::span<const FileKey> generation_keys() {
  return kGeneration;
}

std::string model_keys_markdown() {
  return str("## config.json, both families\n\n", keys_markdown(kCommon), "\n## config.json, Llama only\n\n",
             keys_markdown(kLlamaOnly), "\n## config.json, Mistral only\n\n", keys_markdown(kMistralOnly),
             "\n## config.json, inside rope_parameters and rope_scaling\n\n", keys_markdown(kRope),
             "\n## generation_config.json (`ithaca generate`)\n\n",
             "Where the file is absent, these keys are read from config.json, as transformers does.\n\n",
             keys_markdown(kGeneration));
}

}  // namespace ithaca
