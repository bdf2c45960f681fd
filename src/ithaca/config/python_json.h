// JSON as Python's json module writes it, and as transformers reads it.
#pragma once
#include <string>
#include <string_view>

#include "ithaca/base/json.h"

namespace ithaca {

// parse_json, but the bare words NaN, Infinity and -Infinity are values too. They come as transformers 5 writes them in
// valid JSON, {"__float__": "Infinity"}, so that what is read can be written again.
Json parse_python_json(std::string_view text, const std::string& source);

}  // namespace ithaca
