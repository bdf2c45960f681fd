// JSON as values of a template, keys in the order of the text.
#pragma once
#include <string>
#include <string_view>

#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

// Of a key that occurs twice the last value counts, as in Python. UserError, naming `source`, on a syntax
// error, on nesting beyond kMaxValueDepth and on integers beyond 64 bits.
Value value_from_json(std::string_view text, const std::string& source);

}  // namespace ithaca::jinja
