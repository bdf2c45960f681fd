// Text from a decoder, token by token, with a cache of keys and values. One rank.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "ithaca/eval/token_rules.h"
#include "ithaca/kernels/attention_block.h"
#include "ithaca/models/decoder.h"

namespace ithaca {

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  std::vector<int64_t> eos_token_ids;                  // generation ends with the first of these
  std::function<void(int32_t)> on_token;               // told each new token; may be empty
  AttentionBackend backend = AttentionBackend::kAuto;  // of the prompt's attention
  TokenRules rules = {};                               // of generation_config.json
  int64_t cache_step = 256;                            // rows by which the cache of keys and values grows
};

// Greedy continuation of `prompt` (at least one token); returns the new tokens, eos included. Replaces the
// attention cores of `decoder` while it runs and puts them back, also when it throws. UserError when the prompt is empty or holds an id outside the
// vocabulary. A tie goes to the smaller id. Memory follows the tokens that there are, not max_new_tokens.
std::vector<int32_t> generate_greedy(Decoder& decoder, const std::vector<int32_t>& prompt,
                                     const GenerateOptions& options);

}  // namespace ithaca
