// What users of other programs type: their names with their words for the values, and names that have only one
// value here so far.
#include <algorithm>

#include "ithaca/config/settings_table.h"

namespace ithaca {
namespace {

// MindSpeed, Megatron-LM, Megatron-DeepSpeed and LLaMA-Factory.
constexpr FieldName kFieldNames[] = {
    {.name = "context_parallel_algo",
     .setting = "sequence_parallel_method",
     .values = "ulysses_cp_algo=ulysses|megatron_cp_algo=ring|hybrid_cp_algo=hybrid|"
               "kvallgather_cp_algo=kv_allgather",
     .later = "adaptive_cp_algo|hybrid_adaptive_cp_algo"},
    {.name = "cp_comm_type",
     .setting = "sequence_parallel_method",
     .values = "a2a=ulysses|p2p=ring|a2a+p2p=hybrid|allgather=kv_allgather"},
    {.name = "position_embedding_type",
     .setting = "position_embedding",
     .values = "rope=rope|alibi=alibi",
     .later = "learned_absolute|relative|mrope|yarn|none"},
    {.name = "flash_attn",
     .setting = "attention",
     .values = "auto=auto|true=flash|fa2=flash|sdpa=aten|false=naive|disabled=naive",
     .later = "fa3",
     .boolean_words = true},
    {.name = "use_flash_attn", .setting = "attention", .values = "true=flash|false=", .boolean_words = true},
    {.name = "use_flash_attn_triton",
     .setting = "attention",
     .values = "true=flash|false=",
     .boolean_words = true,
     .note = "there is no Triton here; attention is flash, the same algorithm"},
};

constexpr FixedSetting kFixed[] = {
    {"use_cp_send_recv_overlap", "true", "a ring always sends and receives behind the attention"},
    {"use_fused_ring_attention_update", "true", "a ring's partial results are always merged in place"},
    {"attention_mask_type", "causal",
     "patterns are settings here: causal, sliding_window, sparse_attention.mode"},
    {"pipeline_parallel_size", "1", "pipeline parallelism comes later"},
    {"pipeline_model_parallel_size", "1", "pipeline parallelism comes later"},
    {"zero_stage", "1",
     "stage 1 is what runs (optimizer states shared out over data x sequence ranks); the others come later"},
    {"deepspeed", "", "ZeRO comes later"},
    {"do_train", "true", "`ithaca train` trains; `ithaca eval` and `ithaca generate` do the rest"},
    {"fp16", "false", "float16 training comes later; bf16 exists"},
    {"finetuning_type", "full", "LoRA comes later"},
    {"lora_rank", "", "LoRA comes later"},
    {"lora_alpha", "", "LoRA comes later"},
    {"lora_dropout", "", "LoRA comes later"},
    {"lora_target", "", "LoRA comes later"},
    {"template", "", "fine-tuning on conversations (stage sft) comes later"},
    {"dataset", "", "dataset_info.json comes later; name a text or jsonl file with train_file"},
    {"dataset_dir", "", "dataset_info.json comes later; name a text or jsonl file with train_file"},
};

}  // namespace

std::span<const FieldName> field_names() {
  return kFieldNames;
}
std::span<const FixedSetting> fixed_settings() {
  return kFixed;
}

const FieldName* find_field_name(std::string_view name) {
  const auto* found = std::ranges::find(kFieldNames, name, &FieldName::name);
  return found == std::end(kFieldNames) ? nullptr : found;
}

const FixedSetting* find_fixed_setting(std::string_view name) {
  const auto* found = std::ranges::find(kFixed, name, &FixedSetting::name);
  return found == std::end(kFixed) ? nullptr : found;
}

}  // namespace ithaca
