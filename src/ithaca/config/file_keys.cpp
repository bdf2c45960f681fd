#include "ithaca/config/file_keys.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

bool is_number(const Json& value, double number) {
  if (value.is_boolean()) return value.get<bool>() == (number == 1.0) && (number == 0.0 || number == 1.0);
  return value.is_number() && value.get<double>() == number;
}

const char* word(KeyUse use) {
  switch (use) {
    case KeyUse::kUsed:
      return "used";
    case KeyUse::kHarmless:
      return "harmless";
    case KeyUse::kRefused:
      return "refused";
  }
  return "";
}

}  // namespace

const FileKey* find_key(std::span<const FileKey> keys, std::string_view name) {
  const FileKey* prefix = nullptr;
  for (const FileKey& key : keys) {
    const std::string_view known = key.name;
    if (known == name) return &key;
    if (known.ends_with('*') && name.starts_with(known.substr(0, known.size() - 1))) prefix = &key;
  }
  return prefix;
}

bool changes_nothing(Unless unless, const Json& value) {
  if (value.is_null()) return true;
  switch (unless) {
    case Unless::kNothing:
      return false;
    case Unless::kFalse:
    case Unless::kZero:
      return is_number(value, 0);
    case Unless::kOne:
    case Unless::kTrue:
      return is_number(value, 1);
    case Unless::kZeroOrOne:
      return is_number(value, 0) || is_number(value, 1);
    case Unless::kEmpty:
      return (value.is_structured() && value.empty()) ||
             (value.is_string() && value.get_ref<const std::string&>().empty());
  }
  return false;
}

std::string accepted_values(Unless unless) {
  switch (unless) {
    case Unless::kNothing:
      return "";
    case Unless::kFalse:
      return "false";
    case Unless::kZero:
      return "0";
    case Unless::kOne:
      return "1";
    case Unless::kZeroOrOne:
      return "0 or 1";
    case Unless::kEmpty:
      return "empty";
    case Unless::kTrue:
      return "true";
  }
  return "";
}

std::string keys_markdown(std::span<const FileKey> keys) {
  std::string text = "| key | | |\n|---|---|---|\n";
  for (const KeyUse use : {KeyUse::kUsed, KeyUse::kRefused, KeyUse::kHarmless})
    for (const FileKey& key : keys) {
      if (key.use != use) continue;
      const std::string accepted = accepted_values(key.unless);
      text += str("| `", key.name, "` | ", word(use), accepted.empty() ? "" : str(" unless ", accepted),
                  " | ", key.remark, " |\n");
    }
  return text;
}

std::string unknown_keys_note(const std::string& source, const std::vector<std::string>& names,
                              const std::string& why) {
  constexpr std::size_t kNamed = 12;
  if (names.empty()) return "";
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kNamed); ++i)
    list += str(list.empty() ? "" : ", ", names[i].substr(0, 60));
  if (names.size() > kNamed) list += str(" and ", names.size() - kNamed, " more");
  return str(source, ": not used: ", list, " (", why, ")");
}

}  // namespace ithaca
