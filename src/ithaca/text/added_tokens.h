// The "added_tokens" of tokenizer.json: texts that are one token wherever they stand, found before anything
// else happens.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ithaca/text/bpe.h"
#include "ithaca/text/json_node.h"
#include "ithaca/text/normalizer.h"
#include "ithaca/text/token_matcher.h"

namespace ithaca {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;
};

// A part of a text: an added token (id >= 0) or the text between two of them (id -1).
struct TextPart {
  Span span;
  int32_t id;
};

class AddedTokens {
 public:
  // `list` is the array (may be null); ids follow the model's vocabulary as in the `tokenizers` library. Tokens
  // of `named` whose content is not in it come behind, with the vocabulary's id or the next free one.
  // `split_special`: special tokens are not looked for in texts. `normalizer` may be null.
  AddedTokens(const JsonNode* list, const std::vector<AddedToken>& named, const BytePairModel& model,
              const Normalizer* normalizer, bool split_special = false);

  // Tokens to look for in the text as given, and those to look for after normalisation (normalized: true).
  std::vector<TextPart> split_raw(std::string_view text) const { return split(text, raw_, split_special_); }
  std::vector<TextPart> split_normalized(std::string_view text) const {
    return split(text, normalized_, split_special_);
  }

  std::optional<int32_t> token_to_id(std::string_view token) const;
  const std::string* id_to_token(int32_t id) const;
  bool is_special(std::string_view token) const;
  int32_t max_id() const { return max_id_; }
  bool normalizes_any() const { return !normalized_.matcher.empty(); }

 private:
  // Tokens and where they stand in a text; the indices of both are those of `tokens`.
  struct Finder {
    TokenMatcher matcher{{}};
    std::vector<AddedToken> tokens;
  };

  static std::vector<TextPart> split(std::string_view text, const Finder& finder, bool split_special);
  void read_list(const JsonNode& list, const BytePairModel& model);
  void add_named(AddedToken token, const BytePairModel& model);
  int32_t next_id(const BytePairModel& model) const;
  void put(AddedToken token);
  void make_finders(const Normalizer* normalizer);
  void add_token(AddedToken token, const BytePairModel& model, const JsonNode& where);

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> by_content_;
  std::unordered_map<int32_t, std::string> by_id_;
  Finder raw_, normalized_;
  int32_t max_id_ = -1;
  bool split_special_;
};

}  // namespace ithaca
