// The "normalizer" of tokenizer.json: what happens to the text before it is split.
#pragma once
#include <memory>
#include <string>

#include "ithaca/text/json_node.h"
#include "ithaca/text/regex.h"

namespace ithaca {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string run(std::string text, RegexScratch& scratch) const = 0;
};

// Null for null. UserError for a type that is not built.
std::unique_ptr<Normalizer> make_normalizer(const JsonNode& node);

}  // namespace ithaca
