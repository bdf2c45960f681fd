// The "decoder" of tokenizer.json: from tokens back to text.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "ithaca/text/byte_level.h"
#include "ithaca/text/json_node.h"
#include "ithaca/text/regex.h"

namespace ithaca {

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual std::vector<std::string> run(std::vector<std::string> tokens, RegexScratch& scratch) const = 0;
};

// Null for null (tokens are then joined by spaces). UserError for a type that is not built.
std::unique_ptr<Decoder> make_decoder(const JsonNode& node, const ByteLevelAlphabet& alphabet);

}  // namespace ithaca
