// Every key of a tokenizer folder that is known, and what is done with it: one declaration, from which the
// check of a folder and docs/tokenizers.md follow.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/base/key_use.h"
#include "ithaca/text/json_node.h"

namespace ithaca {

// Used and harmless: in transformers 5.23 with tokenizers 0.23.3. A refused key may be null, false or 0.
struct TokenizerKey {
  std::string_view file;
  std::string_view place;  // "" the file's object; "model"; "normalizer.Replace": components of that type
  std::string_view key;
  KeyUse use;
  std::string_view note;
};

std::span<const TokenizerKey> tokenizer_keys();

// Goes through the keys of one file. UserError names a refused key; one line about all unknown keys is added
// to `remarks`.
void check_tokenizer_keys(std::string_view file, const JsonNode& root, std::vector<std::string>& remarks);

// docs/tokenizers.md, whole.
std::string tokenizer_keys_markdown();

}  // namespace ithaca
