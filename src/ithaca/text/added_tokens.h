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
  // `list` is the array; ids follow the model's vocabulary as in the `tokenizers` library. `normalizer` may
  // be null.
  AddedTokens(const JsonNode* list, const BytePairModel& model, const Normalizer* normalizer);

  // Tokens to look for in the text as given, and those to look for after normalisation (normalized: true).
  std::vector<TextPart> split_raw(std::string_view text) const { return split(text, raw_); }
  std::vector<TextPart> split_normalized(std::string_view text) const { return split(text, normalized_); }

  std::optional<int32_t> token_to_id(std::string_view token) const;
  const std::string* id_to_token(int32_t id) const;
  bool is_special(std::string_view token) const;
  int32_t max_id() const { return max_id_; }
  bool normalizes_any() const { return !normalized_.tokens.empty(); }

 private:
  // A trie of the tokens' texts; the longest one at the leftmost place wins.
  struct Matcher {
    FlatMap edges;              // node << 8 | byte -> node; node 0 is the root
    std::vector<int32_t> ends;  // by node: index into tokens, -1: none
    std::vector<AddedToken> tokens;
    bool starts[256] = {};
    void add(const AddedToken& token, std::string_view text);
    // The index of the longest token at `at`, -1 if none; `end` is set behind it.
    int32_t longest(std::string_view text, std::size_t at, std::size_t& end) const;
  };

  static std::vector<TextPart> split(std::string_view text, const Matcher& matcher);
  void add_token(AddedToken token, const BytePairModel& model, const JsonNode& where);

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> by_content_;
  std::unordered_map<int32_t, std::string> by_id_;
  Matcher raw_, normalized_;
  int32_t max_id_ = -1;
};

}  // namespace ithaca
