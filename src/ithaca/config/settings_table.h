// The one declaration of every setting. Parsing, --help, printing, saving and docs/settings.md all walk this
// table. Used inside config/ only.
#pragma once
#include <array>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "ithaca/config/settings.h"

namespace ithaca {

struct SettingInfo {
  using Member =
      std::variant<std::string Settings::*, bool Settings::*, int64_t Settings::*, double Settings::*>;

  std::string_view name;
  std::string_view group;
  Member member;
  OnResume on_resume;  // a setting without it does not compile (settings_table.cpp)
  std::string_view help;
  std::string_view choices = {};  // "a|b|c"; empty: anything
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool above_minimum = false;   // the minimum itself is not allowed
  std::string_view later = {};  // "a|b": words that users know and that are refused as not built yet
  bool boolean_words = false;   // a string that is also given as a boolean: bare flag, True, no, ...
  std::string_view word = {};   // stands for word_value of an integer ("auto")
  int64_t word_value = 0;
  std::array<std::string_view, 2> aliases = {};
};

// Settings that users know and that exist only with one value so far; any other value is refused with the
// reason.
struct FixedSetting {
  std::string_view name;
  std::string_view accepted;  // empty: none
  std::string_view reason;
};

// A name of the field for one of our settings that has its own words for the values (settings_words.cpp). Names
// that differ in nothing else are SettingInfo::aliases.
struct FieldName {
  std::string_view name;     // with underscores
  std::string_view setting;  // ours
  std::string_view values;   // "theirs=ours|theirs=ours"; with an empty `ours` the setting stays as it is
  std::string_view later = {};
  bool boolean_words = false;  // true and false are among `values`, and the bare name is true
  std::string_view note = {};  // for the log, where it is used
};

std::span<const SettingInfo> settings_table();
std::span<const FieldName> field_names();
std::span<const FixedSetting> fixed_settings();

const SettingInfo* find_setting(std::string_view name_or_alias);  // with underscores
const FieldName* find_field_name(std::string_view name);
const FixedSetting* find_fixed_setting(std::string_view name);
// Whether `key` is the part before a dot of settings' names, so that a file may give them as a mapping.
bool is_setting_group(std::string_view key);
// The known name or alias with the fewest edits from `name`; empty where those are more than a third of its letters.
std::string nearest_setting(std::string_view name);

std::optional<bool> parse_boolean(std::string_view word);
// Whether `word` is one of "a|b|c".
bool is_choice(std::string_view choices, std::string_view word);
// Sets the member from its text; returns what was expected if it does not fit.
std::optional<std::string> set_value(const SettingInfo& info, std::string_view text, Settings& settings);
// The text that set_value reads back to the same value.
std::string value_text(const SettingInfo& info, const Settings& settings);
// "an integer from 1 to 4096", "true or false", "one of a, b"
std::string expected_text(const SettingInfo& info);

}  // namespace ithaca
