// JSON files, read as hostile and written whole (nlohmann-json; its full header stays out of ours).
#pragma once
#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace ithaca {

using Json = nlohmann::json;

// Parses UTF-8, with or without a byte order mark. `source` (a file name) is named in errors. Throws UserError on a
// syntax error, another encoding, nesting deeper than `max_depth` and a key that occurs twice in one object.
Json parse_json(std::string_view text, const std::string& source, int max_depth = 64);

// Reads a whole file; UserError if it is missing, larger than `max_bytes` or not JSON.
Json read_json_file(const std::filesystem::path& path, std::size_t max_bytes = std::size_t{256} << 20);

// Writes durably (see write_file in file.h), keys sorted, `indent` spaces a level, newline at the end.
void write_json_file(const std::filesystem::path& path, const Json& value, int indent = 2);

}  // namespace ithaca
