// Hugging Face model folders, in and out.
#pragma once
#include <cstdint>
#include <filesystem>

#include "ithaca/models/registry.h"

namespace ithaca {

// Fills `decoder` from the folder's model.safetensors or, without one, its shards + index. Casts to the
// parameters' dtype (float16/bfloat16/float32/float64 in), copies into their own storage. UserError lists all
// problems: tensors missing, unexpected (other than *.rotary_emb.inv_freq and a tied lm_head), of another
// shape, index entries that leave the folder, and .bin/.pt/.pth folders with the way to convert them.
void load_weights(Decoder& decoder, const std::filesystem::path& folder);

// Writes config.json (as read, with dtype set), generation_config.json, model.safetensors (shards of at most
// `max_shard_bytes` + index where one file would be larger), and copies the tokenizer files, generation
// config and chat template of `tokenizer_source` (may be empty). AutoModelForCausalLM.from_pretrained opens
// the result as is. Weights of an earlier save in the folder are removed afterwards.
void save_model_folder(Decoder& decoder, const std::filesystem::path& folder,
                       const std::filesystem::path& tokenizer_source,
                       std::size_t max_shard_bytes = 5'000'000'000);

}  // namespace ithaca
