// The keys of config.json that transformers' configurations of the known families read, in the names of transformers 4
// and 5, and what Ithaca does with each.
#pragma once
#include <span>
#include <string>

#include "ithaca/config/file_keys.h"

namespace ithaca {

// `architecture` is LlamaForCausalLM or MistralForCausalLM.
std::span<const FileKey> model_config_keys(const std::string& architecture);
std::span<const FileKey> rope_keys();  // inside rope_scaling or rope_parameters
std::span<const FileKey>
generation_keys();  // of generation_config.json, or of config.json where that file is absent

// Sections of docs/model_files.md.
std::string model_keys_markdown();

}  // namespace ithaca
