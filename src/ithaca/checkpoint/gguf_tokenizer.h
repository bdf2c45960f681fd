// The tokenizer inside a GGUF file, as a Hugging Face tokenizer.json and its companions.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "ithaca/base/json.h"
#include "ithaca/checkpoint/gguf_metadata.h"

namespace ithaca {

// Ids of the special tokens, each inside the vocabulary.
struct GgufSpecialTokens {
  std::optional<int64_t> bos, eos, unk, pad, eot, eom;
};

struct GgufTokenizer {
  std::unique_ptr<Json> tokenizer;       // tokenizer.json
  std::unique_ptr<Json> config;          // tokenizer_config.json, chat template included
  std::unique_ptr<Json> special_tokens;  // special_tokens_map.json
  GgufSpecialTokens ids;
  int64_t vocab_size = 0;  // entries of tokenizer.ggml.tokens
};

// Byte-level BPE ("gpt2") with the pre-tokenizers smollm, gpt-2, llama-bpe and qwen2, and SentencePiece BPE
// ("llama"); others are refused by name, because a wrong pre-tokenizer gives wrong ids in silence. UserError
// names file and key.
GgufTokenizer read_gguf_tokenizer(const GgufMetadata& metadata);

}  // namespace ithaca
