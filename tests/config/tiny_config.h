// A config.json whose query heads do not divide by a power of two.
#pragma once

namespace ithaca {

inline constexpr const char* kTinyConfig =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64,
  "hidden_size": 36, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 9, "num_key_value_heads": 3})";

}  // namespace ithaca
