// A tokenizer's folder: tokenizer.json and the files beside it that name tokens, read as transformers 5.23
// reads them.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ithaca/base/json.h"
#include "ithaca/text/added_tokens.h"

namespace ithaca {

struct TokenizerFolder {
  Json tokenizer;      // tokenizer.json
  std::string source;  // its path, for errors
  // Tokens that the other files name, in the order in which those that tokenizer.json lacks get their ids. Their
  // own ids are not set.
  std::vector<AddedToken> named;
  std::string bos, eos;  // texts; empty: none
  bool split_special_tokens = false;
  std::string fingerprint;           // SHA-256 of all that was read
  std::vector<std::string> remarks;  // what the user should hear once
};

// UserError names the file and key.
TokenizerFolder read_tokenizer_folder(const std::filesystem::path& folder);

}  // namespace ithaca
