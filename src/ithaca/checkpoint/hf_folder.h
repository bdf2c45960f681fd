// Hugging Face model folders, in and out.
#pragma once
#include <cstdint>
#include <filesystem>

#include "ithaca/models/registry.h"

namespace ithaca {

// Fills `decoder` from the folder's model.safetensors or, without one, its shards + index. Casts to the
// parameters' dtype (float16/bfloat16/float32/float64 in), copies into their own storage. UserError as of WeightFiles::open
// and check_weights (model_weights.h), and where the model is tied and the weights' head is another.
void load_weights(Decoder& decoder, const std::filesystem::path& folder);

// Writes config.json (as read, with dtype set), generation_config.json, model.safetensors (shards of at most
// `max_shard_bytes` + index where one file would be larger), and copies the tokenizer files, generation
// config and chat template of `tokenizer_source` (may be empty). AutoModelForCausalLM.from_pretrained opens
// the result as is. Weights of an earlier save in the folder are removed afterwards.
void save_model_folder(Decoder& decoder, const std::filesystem::path& folder,
                       const std::filesystem::path& tokenizer_source,
                       std::size_t max_shard_bytes = 5'000'000'000);

}  // namespace ithaca
