// What a folder's generation_config.json asks of greedy text, applied to one row of scores as transformers' logits
// processors do, in their order and in float32.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "ithaca/config/generation_config.h"

namespace ithaca {

class TokenRules {
 public:
  TokenRules() = default;  // no rule
  // `eos` ends a text; `max_new_tokens` may be generated. UserError where a forced id is outside the vocabulary.
  TokenRules(const GenerationConfig& config, std::vector<int64_t> eos, int64_t prompt_length,
             int64_t max_new_tokens, int64_t vocab_size);

  bool empty() const { return !active_; }
  // scores [V] of the token that follows `ids` (the prompt and what was generated); tokens that may not follow get -inf.
  void apply(std::span<const int32_t> ids, std::span<float> scores) const;

 private:
  void penalize_repetition(std::span<const int32_t> ids, std::span<float> scores) const;
  void forbid_repeated_runs(std::span<const int32_t> ids, std::span<float> scores) const;
  void forbid_bad_words(std::span<const int32_t> ids, std::span<float> scores) const;

  GenerationConfig config_;
  std::vector<int64_t> eos_;
  int64_t prompt_length_ = 0, max_new_tokens_ = 0;
  bool active_ = false;
};

}  // namespace ithaca
