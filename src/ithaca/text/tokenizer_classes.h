// tokenizer_class: transformers 5 builds some classes' tokenizers anew, with rules of their own in the place of
// tokenizer.json's.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/base/json.h"

namespace ithaca {

// Adds a remark if `name` is such a class and its normalizer or pre_tokenizer is not that of the file.
void note_class_rules(std::string_view name, const Json& tokenizer, const std::string& source,
                      std::vector<std::string>& remarks);

}  // namespace ithaca
