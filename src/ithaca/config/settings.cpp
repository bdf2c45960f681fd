#include "ithaca/config/settings.h"

#include <algorithm>
#include <map>
#include <optional>

#include "ithaca/base/file.h"
#include "ithaca/config/settings_source.h"
#include "ithaca/config/settings_table.h"

namespace ithaca {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxProblemsShown = 50;

std::string with_underscores(std::string_view key) {
  std::string name(key);
  std::ranges::replace(name, '-', '_');
  return name;
}

std::string shell_word(const std::string& word) {
  if (!word.empty() && word.find_first_of(" \t\n'\"\\$`*?&|;<>(){}[]#~!") == std::string::npos) return word;
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

bool is_flag(std::string_view argument) {
  return argument.starts_with("--") && argument.size() > 2;
}

// A flag without a value means true where that is a value.
bool may_stand_alone(std::string_view key) {
  const std::string name = with_underscores(key);
  if (const SettingInfo* info = find_setting(name))
    return info->boolean_words || std::holds_alternative<bool Settings::*>(info->member);
  if (const FieldName* field = find_field_name(name)) return field->boolean_words;
  const FixedSetting* fixed = find_fixed_setting(name);
  return fixed && parse_boolean(fixed->accepted);
}

bool is_known(std::string_view key) {
  const std::string name = with_underscores(key);
  return find_setting(name) || find_field_name(name) || find_fixed_setting(name);
}

// Reads arguments[at] and the value it takes; returns the index of the next argument.
std::size_t read_flag(const std::vector<std::string>& arguments, std::size_t at,
                      std::vector<WrittenSetting>& settings, Problems& problems) {
  const std::string& argument = arguments[at];
  const std::string key = argument.substr(2);
  const std::string* next =
      at + 1 < arguments.size() && !is_flag(arguments[at + 1]) ? &arguments[at + 1] : nullptr;
  if (may_stand_alone(key)) {
    // `--bf16 seed=1` is two settings
    const bool takes_next = next && next->find('=') == std::string::npos;
    if (!takes_next) {
      settings.push_back({key, "true", argument, argument, false, argument});
      return at + 1;
    }
  } else if (!next) {
    // an unknown flag is told as such by name, not for its missing value
    if (is_known(key))
      problems.add(str(argument, " needs a value: ", argument, " VALUE"));
    else
      settings.push_back({key, "", argument, argument});
    return at + 1;
  }
  settings.push_back(
      {key, *next, argument, argument + " " + *next, false, argument + " " + shell_word(*next)});
  return at + 2;
}

bool same_value(const SettingInfo& info, const WrittenSetting& a, const WrittenSetting& b) {
  Settings first, second;
  if (set_value(info, a.value, first) || set_value(info, b.value, second))
    return true;  // the bad one is told by itself
  return value_text(info, first) == value_text(info, second);
}

void apply_fixed(const FixedSetting& fixed, const WrittenSetting& written, Problems& problems) {
  if (!fixed.accepted.empty()) {
    const auto boolean = parse_boolean(fixed.accepted);
    if (written.value == fixed.accepted || (boolean && parse_boolean(written.value) == boolean)) return;
  }
  std::string expected = fixed.accepted.empty() ? "" : str("; only ", fixed.accepted, " is accepted so far");
  problems.add(str(written.typed, ": not available: ", fixed.reason, expected));
}

std::string advice_for(const std::string& unknown, bool from_file) {
  const std::string nearest = nearest_setting(unknown);
  if (nearest.empty()) return "`ithaca help settings` lists the known ones";
  return str("the nearest known one is ", from_file ? "" : "--", nearest);
}

// `warmup_steps: 0.1` means a tenth of the steps (LLaMA-Factory, transformers 5): a warmup_ratio. Only the last
// warmup_steps counts, so that 20 on the command line undoes 0.1 in the file and the other way round.
void read_warmup_share(std::vector<WrittenSetting>& from_file, std::vector<WrittenSetting>& from_words) {
  const auto names_steps = [](const WrittenSetting& one) {
    return with_underscores(one.key) == "warmup_steps";
  };
  const auto is_share = [](const WrittenSetting& one) {
    Settings scratch;
    return set_value(*find_setting("warmup_steps"), one.value, scratch) &&
           !set_value(*find_setting("warmup_ratio"), one.value, scratch);
  };
  bool later = false;
  for (std::vector<WrittenSetting>* source : {&from_words, &from_file})
    for (std::size_t at = source->size(); at-- > 0;) {
      WrittenSetting& one = (*source)[at];
      if (!names_steps(one)) continue;
      if (later) {
        source->erase(source->begin() + static_cast<std::ptrdiff_t>(at));
        continue;
      }
      later = true;
      if (is_share(one)) one.setting = "warmup_ratio";
    }
}

// Their word for ours; nothing if they have no such word.
std::optional<std::string_view> our_value(const FieldName& field, std::string_view theirs) {
  for (std::string_view rest = field.values; !rest.empty();) {
    const std::string_view pair = rest.substr(0, rest.find('|'));
    rest.remove_prefix(std::min(pair.size() + 1, rest.size()));
    const std::size_t equals = pair.find('=');
    if (pair.substr(0, equals) == theirs) return pair.substr(equals + 1);
  }
  return std::nullopt;
}

std::string their_words(const FieldName& field) {
  std::string words;
  for (std::string_view rest = field.values; !rest.empty();) {
    const std::string_view pair = rest.substr(0, rest.find('|'));
    rest.remove_prefix(std::min(pair.size() + 1, rest.size()));
    words += str(words.empty() ? "" : ", ", pair.substr(0, pair.find('=')));
  }
  return words;
}

// The names of the field become settings of ours. Returns what is left of `written`.
std::vector<WrittenSetting> translated(std::vector<WrittenSetting> written, ResolvedSettings& resolved,
                                       Problems& problems) {
  std::vector<WrittenSetting> ours;
  for (WrittenSetting& one : written) {
    const std::string name = with_underscores(one.key);
    const FieldName* field = find_field_name(name);
    if (!field) {
      // DeepSpeed's size is Ulysses'
      const bool ulysses = name == "ds_sequence_parallel_size" && one.value != "1";
      ours.push_back(one);
      if (!ulysses) continue;
      one.setting = "sequence_parallel_method";
      one.value = "ulysses";
      ours.push_back(std::move(one));
      continue;
    }
    const auto boolean = field->boolean_words ? parse_boolean(one.value) : std::nullopt;
    const auto value = our_value(*field, boolean ? *boolean ? "true" : "false" : one.value);
    if (!value) {
      problems.add(str(one.typed, ": expected one of ", their_words(*field),
                       is_choice(field->later, one.value) ? " (that one is not built)" : ""));
      continue;
    }
    if (value->empty()) continue;
    if (!field->note.empty()) resolved.notes.push_back(str(one.typed, ": ", field->note));
    one.setting = field->setting;
    one.value = *value;
    ours.push_back(std::move(one));
  }
  return ours;
}

// Applies what one source (the file, or the command line) says.
void apply(const std::vector<WrittenSetting>& written, ResolvedSettings& resolved, Problems& problems) {
  std::map<std::string_view, const WrittenSetting*> earlier;
  for (const WrittenSetting& one : written) {
    if (problems.list().size() >= kMaxProblemsShown) {
      problems.add("(more problems are not shown)");
      return;
    }
    const std::string name = one.setting.empty() ? with_underscores(one.key) : one.setting;
    const SettingInfo* info = find_setting(name);
    if (!info) {
      const FixedSetting* fixed = find_fixed_setting(name);
      if (fixed)
        apply_fixed(*fixed, one, problems);
      else
        problems.add(str(one.typed, ": unknown setting; ", advice_for(name, one.from_file)));
      continue;
    }
    const std::string setting(info->name);
    if (const WrittenSetting*& before = earlier[info->name];
        !before || before->key == one.key || same_value(*info, *before, one))
      before = &one;
    else
      problems.add(str(before->typed, " and ", one.typed, " are two spellings of ", setting,
                       " with different values; give one"));
    if (const auto expected = set_value(*info, one.value, resolved.values)) {
      problems.add(str(one.typed, ": expected ", *expected));
      continue;
    }
    resolved.origin[setting] = one.origin;
    resolved.spelling[setting] = one.typed;
    resolved.key[setting] = with_underscores(one.key);
  }
}

// MindSpeed's size without an algorithm means Ulysses here.
void imply_method(ResolvedSettings& resolved) {
  const std::string size = "sequence_parallel_size", method = "sequence_parallel_method";
  if (resolved.is_given(method) || resolved.values.sequence_parallel_size == 1 || !resolved.is_given(size) ||
      resolved.key.at(size) != "context_parallel_size")
    return;
  resolved.values.sequence_parallel_method = "ulysses";
  resolved.origin[method] = resolved.origin.at(size);
  resolved.spelling[method] = resolved.spelling.at(size);
  resolved.key[method] = resolved.key.at(size);
}

std::vector<WrittenSetting> read_text(std::string_view text, const std::string& name, Problems& problems) {
  try {
    if (text.size() > kMaxFileBytes)
      throw UserError(str(name, ": ", text.size(), " bytes; settings files have at most ", kMaxFileBytes));
    return file_ending(name) == ".json" ? read_json_settings(text, name, problems)
                                        : read_yaml_settings(text, name, problems);
  } catch (const UserError& error) {
    problems.add(error.what());
    return {};
  }
}

ResolvedSettings resolve(std::vector<WrittenSetting> from_file, const std::vector<std::string>& arguments,
                         Problems& problems) {
  ResolvedSettings resolved;
  for (const std::string& name : setting_names()) resolved.origin[name] = "default";
  std::vector<WrittenSetting> from_words = read_arguments(arguments, problems);
  for (const WrittenSetting& one : from_words) {
    const std::string name = with_underscores(one.key);
    const SettingInfo* info = find_setting(name);
    const FieldName* field = find_field_name(name);
    resolved.typed.push_back({std::string(info ? info->name : field ? field->setting : one.key), one.words});
  }
  read_warmup_share(from_file, from_words);
  apply(translated(std::move(from_file), resolved, problems), resolved, problems);
  apply(translated(std::move(from_words), resolved, problems), resolved, problems);
  imply_method(resolved);
  return resolved;
}

}  // namespace

std::vector<WrittenSetting> read_arguments(const std::vector<std::string>& arguments, Problems& problems) {
  std::vector<WrittenSetting> settings;
  for (std::size_t at = 0; at < arguments.size();) {
    const std::string& argument = arguments[at];
    const std::size_t equals = argument.find('=');
    if (equals != std::string::npos && equals > 0 && (is_flag(argument) || argument.front() != '-')) {
      const std::string flag = argument.substr(0, equals);
      settings.push_back({is_flag(flag) ? flag.substr(2) : flag, argument.substr(equals + 1), flag, argument,
                          false, shell_word(argument)});
      ++at;
    } else if (is_flag(argument)) {
      at = read_flag(arguments, at, settings, problems);
    } else {
      problems.add(str(argument, ": expected --setting value, --setting=value or setting=value"));
      ++at;
    }
  }
  return settings;
}

std::string ResolvedSettings::as_typed(const std::string& name) const {
  const auto found = spelling.find(name);
  if (found != spelling.end()) return found->second;
  return str(name, " ", value_text(*find_setting(name), values), " (default)");
}

std::string ResolvedSettings::typed_with(const std::string& setting, const std::string& value) const {
  std::string command = file.empty() ? "" : " " + shell_word(file);
  for (const Typed& one : typed)
    if (one.setting != setting) command += " " + one.words;
  return str(command, " --", setting, " ", value);
}

SettingsArguments split_arguments(const std::vector<std::string>& words) {
  if (words.empty() || words.front().starts_with('-')) return {{}, words};
  // `key=value` is a setting unless a file of that name is there
  std::error_code error;
  if (words.front().find('=') != std::string::npos && !std::filesystem::is_regular_file(words.front(), error))
    return {{}, words};
  return {words.front(), {words.begin() + 1, words.end()}};
}

ResolvedSettings resolve_settings_text(std::string_view text, const std::string& name,
                                       const std::vector<std::string>& arguments, Problems& problems) {
  ResolvedSettings resolved = resolve(read_text(text, name, problems), arguments, problems);
  resolved.file = name;
  return resolved;
}

ResolvedSettings resolve_settings(const std::filesystem::path& file,
                                  const std::vector<std::string>& arguments, Problems& problems) {
  if (file.empty()) return resolve({}, arguments, problems);
  std::string text;
  try {
    text = read_file(file, kMaxFileBytes);
  } catch (const UserError& error) {
    problems.add(error.what());
  }
  return resolve_settings_text(text, file.string(), arguments, problems);
}

ResolvedSettings resolve_settings(const std::filesystem::path& file,
                                  const std::vector<std::string>& arguments) {
  Problems problems;
  ResolvedSettings resolved = resolve_settings(file, arguments, problems);
  problems.throw_if_any("The settings cannot be used:");
  return resolved;
}

}  // namespace ithaca
