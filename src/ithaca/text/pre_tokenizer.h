// The "pre_tokenizer" of tokenizer.json: cuts the text into words, inside which alone tokens are merged.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "ithaca/text/byte_level.h"
#include "ithaca/text/json_node.h"
#include "ithaca/text/regex.h"

namespace ithaca {

struct Words {
  std::string text;
  std::vector<Span> spans;    // not empty ones, in order; what lies between them is dropped
  bool starts_input = false;  // text[0] is the first character of what the user gave
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void run(Words& words, RegexScratch& scratch) const = 0;
};

class PreTokenizer {
 public:
  // null: the text is one word. UserError for a type that is not built.
  PreTokenizer(const JsonNode& node, const ByteLevelAlphabet& alphabet);
  Words run(std::string text, bool starts_input, RegexScratch& scratch) const;
  // The last step maps bytes to their printable stand-ins and leaves that to the caller: a word seen before
  // need not be mapped again.
  bool maps_bytes() const { return maps_bytes_; }

 private:
  void add(const JsonNode& node, const ByteLevelAlphabet& alphabet);
  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  bool maps_bytes_ = false;
};

}  // namespace ithaca
