// The "post_processor" of tokenizer.json, as far as it changes the ids: special tokens before and behind one
// text.
#pragma once
#include <cstdint>
#include <vector>

#include "ithaca/text/json_node.h"

namespace ithaca {

struct PostProcessor {
  std::vector<int32_t> before, behind;

  // UserError for a type that is not built, or a template that uses the text not exactly once.
  static PostProcessor from_json(const JsonNode& node);
};

}  // namespace ithaca
