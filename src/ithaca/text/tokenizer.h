// tokenizer.json (Hugging Face `tokenizers`), read without that library: the same ids, token by token.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/base/json.h"

namespace ithaca {

class Tokenizer {
 public:
  // `folder` holds tokenizer.json, and may hold tokenizer_config.json, special_tokens_map.json,
  // added_tokens.json and chat_template.jinja: docs/tokenizers.md. UserError names the file and key.
  static Tokenizer from_folder(const std::filesystem::path& folder);
  static Tokenizer from_json(const Json& json, const std::string& source);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Invalid UTF-8 is replaced by U+FFFD first. Safe to call from several threads at once, and cheap for short
  // texts: buffers and the ids of words met before are kept from call to call. `poll` is called between pieces
  // of the work on a long text and may throw to end it.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = false,
                              const std::function<void()>& poll = {}) const;
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;

  int32_t vocab_size() const;  // highest id + 1, added tokens included
  std::optional<int32_t> token_to_id(std::string_view token) const;
  std::optional<int32_t> bos_id() const;  // of the folder's files
  std::optional<int32_t> eos_id() const;
  // Does the post-processor put bos in front of a document (encode with add_special_tokens)?
  bool adds_bos() const;
  // SHA-256 of the files it was read from: the key of the tokenised-data cache.
  const std::string& fingerprint() const;
  // What the folder holds that the user should hear of once: unknown keys, contradictions.
  const std::vector<std::string>& remarks() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ithaca
