// How a folder wants text to be generated: generation_config.json or, without one, the same keys of config.json (as
// transformers does). Text is always generated greedily here; what would change greedy text is used or refused.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ithaca/base/json.h"

namespace ithaca {

struct GenerationConfig {
  std::optional<std::vector<int64_t>> eos_token_ids;  // named at all; ids that name no token are left out
  std::optional<int64_t> max_new_tokens, max_length;  // the latter counts the prompt
  int64_t min_new_tokens = 0, min_length = 0;
  double repetition_penalty = 1.0;
  int64_t no_repeat_ngram_size = 0;  // 0: none
  std::vector<int64_t> suppress_tokens, begin_suppress_tokens;
  std::vector<std::vector<int64_t>> bad_words_ids;
  std::optional<int64_t> forced_bos_token_id;
  std::vector<int64_t> forced_eos_token_ids;
  std::vector<std::string> notes;  // for the log, once
};

// UserError lists all problems: values of another kind, and every key of config/model_keys.h that is refused.
// `whole_file` is false where the keys stand in config.json among others, of which nothing is said.
GenerationConfig parse_generation_config(const Json& json, const std::string& source, bool whole_file = true);
GenerationConfig read_generation_config(const std::filesystem::path& model_folder);

}  // namespace ithaca
