// V vocabulary.
#include "ithaca/eval/token_rules.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Ids beyond the vocabulary forbid nothing.
void forbid(std::span<const int64_t> ids, std::span<float> scores) {
  for (const int64_t id : ids)
    if (id < static_cast<int64_t>(scores.size())) scores[static_cast<std::size_t>(id)] = kNever;
}

void force(std::span<const int64_t> ids, std::span<float> scores) {
  std::ranges::fill(scores, kNever);
  for (const int64_t id : ids) scores[static_cast<std::size_t>(id)] = 0;
}

}  // namespace

TokenRules::TokenRules(const GenerationConfig& config, std::vector<int64_t> eos, int64_t prompt_length,
                       int64_t max_new_tokens, int64_t vocab_size)
    : config_(config), eos_(std::move(eos)), prompt_length_(prompt_length), max_new_tokens_(max_new_tokens) {
  // an end token by itself is no bad word
  std::erase_if(config_.bad_words_ids, [&](const std::vector<int64_t>& word) {
    return word.empty() || (word.size() == 1 && std::ranges::count(eos_, word.front()));
  });
  config_.min_new_tokens = std::max(config_.min_new_tokens, config_.min_length - prompt_length);
  std::vector<int64_t> forced = config_.forced_eos_token_ids;
  if (config_.forced_bos_token_id) forced.push_back(*config_.forced_bos_token_id);
  for (const int64_t id : forced)
    if (id >= vocab_size)
      throw UserError(
          str("generation_config.json forces the token ", id, "; the model's vocabulary has ", vocab_size));
  active_ = config_.repetition_penalty != 1.0 || config_.no_repeat_ngram_size > 0 ||
            !config_.bad_words_ids.empty() || config_.min_new_tokens > 0 || !forced.empty() ||
            !config_.suppress_tokens.empty() || !config_.begin_suppress_tokens.empty();
}

void TokenRules::penalize_repetition(std::span<const int32_t> ids, std::span<float> scores) const {
  const auto penalty = static_cast<float>(config_.repetition_penalty);
  for (const int32_t id : std::set<int32_t>(ids.begin(), ids.end())) {
    float& score = scores[static_cast<std::size_t>(id)];
    score = score < 0 ? score * penalty : score / penalty;
  }
}

void TokenRules::forbid_repeated_runs(std::span<const int32_t> ids, std::span<float> scores) const {
  const auto length = static_cast<std::size_t>(config_.no_repeat_ngram_size);
  if (ids.size() < length) return;
  const std::span<const int32_t> end = ids.last(length - 1);
  for (std::size_t begin = 0; begin + length <= ids.size(); ++begin)
    if (std::ranges::equal(ids.subspan(begin, length - 1), end))
      scores[static_cast<std::size_t>(ids[begin + length - 1])] = kNever;
}

void TokenRules::forbid_bad_words(std::span<const int32_t> ids, std::span<float> scores) const {
  for (const std::vector<int64_t>& word : config_.bad_words_ids) {
    const std::span<const int64_t> before = std::span(word).first(word.size() - 1);
    if (before.size() <= ids.size() && std::ranges::equal(before, ids.last(before.size())))
      forbid({&word.back(), 1}, scores);
  }
}

void TokenRules::apply(std::span<const int32_t> ids, std::span<float> scores) const {
  const auto length = static_cast<int64_t>(ids.size()), generated = length - prompt_length_;
  if (config_.repetition_penalty != 1.0) penalize_repetition(ids, scores);
  if (config_.no_repeat_ngram_size > 0) forbid_repeated_runs(ids, scores);
  forbid_bad_words(ids, scores);
  if (generated < config_.min_new_tokens) forbid(eos_, scores);
  if (config_.forced_bos_token_id && length == 1) force({&*config_.forced_bos_token_id, 1}, scores);
  if (!config_.forced_eos_token_ids.empty() && generated == max_new_tokens_ - 1)
    force(config_.forced_eos_token_ids, scores);
  forbid(config_.suppress_tokens, scores);
  const int64_t begin = prompt_length_ > 1 || !config_.forced_bos_token_id ? 0 : 1;
  if (generated == begin) forbid(config_.begin_suppress_tokens, scores);
}

}  // namespace ithaca
