#include "ithaca/checkpoint/integrity.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// A name as a walk below the folder gives it: relative, without a step up.
bool stays_below(const std::string& name) {
  const std::filesystem::path path = name;
  return !name.empty() && name.find('\0') == std::string::npos && path.is_relative() &&
         std::ranges::none_of(path,
                              [](const auto& part) { return part == ".." || part == "." || part.empty(); });
}

}  // namespace

std::map<std::string, FileIntegrity> parse_integrity(const Json& json, std::optional<int64_t> step,
                                                     const std::string& source) {
  const auto member = [&](const char* key) { return json.is_object() ? json.find(key) : json.end(); };
  const auto format = member("format"), files = member("files"), saved_step = member("step");
  if (format == json.end() || *format != Json(1) || files == json.end() || !files->is_object())
    throw UserError(str(source, ": expected format 1 and a list of files"));
  if (step && (saved_step == json.end() || *saved_step != Json(*step)))
    throw UserError(str(source, ": is of step ", saved_step == json.end() ? "null" : saved_step->dump(),
                        ", the folder's name says ", *step));
  std::map<std::string, FileIntegrity> list;
  for (const auto& [name, entry] : files->items()) {
    const auto bad = [&, &name = name](const char* why) {
      return UserError(str(source, ": files, ", name, ": ", why));
    };
    if (!stays_below(name)) throw bad("is no name of a file below the folder");
    const auto size = entry.is_object() ? entry.find("size") : entry.end();
    const auto sha256 = entry.is_object() ? entry.find("sha256") : entry.end();
    if (size == entry.end() || !size->is_number_unsigned() || sha256 == entry.end() || !sha256->is_string() ||
        !is_sha256(sha256->get_ref<const std::string&>()))
      throw bad("expected a size and a sha256");
    list.emplace(name, FileIntegrity{size->get<uint64_t>(), sha256->get<std::string>()});
  }
  return list;
}

}  // namespace ithaca
