#include "ithaca/base/json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/text_encoding.h"

namespace ithaca {

Json parse_json(std::string_view text, const std::string& source, int max_depth) {
  text = without_byte_order_mark(text);
  std::vector<std::set<std::string>> keys;  // of each object that is open, to find duplicates
  auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth >= max_depth) throw UserError(str(source, ": nested deeper than ", max_depth, " levels"));
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      throw UserError(
          str(source, ": the key \"", parsed.get<std::string>(), "\" occurs twice in one object"));
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& error) {
    const std::string encoding = wide_encoding_problem(text);
    if (!encoding.empty()) throw UserError(str(source, ": ", encoding));
    throw UserError(str(source, ": not valid JSON: ", error.what()));
  }
}

Json read_json_file(const std::filesystem::path& path, std::size_t max_bytes) {
  return parse_json(read_file(path, max_bytes), path.string());
}

void write_json_file(const std::filesystem::path& path, const Json& value, int indent) {
  // Bytes that are no UTF-8 (a user's text in a log, say) become U+FFFD rather than an exception at the end
  // of a run.
  write_file(path, value.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace ithaca
