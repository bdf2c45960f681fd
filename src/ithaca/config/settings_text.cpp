// Settings as text: YAML, --help, the page of the docs.
#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ithaca/config/settings_table.h"

namespace ithaca {
namespace {

// Strings that YAML would read as something else are quoted as JSON does, which YAML understands.
std::string yaml_scalar(const SettingInfo& info, const std::string& text) {
  if (!std::holds_alternative<std::string Settings::*>(info.member)) return text;
  const bool plain = !text.empty() && text != "null" && text != "Null" && text != "NULL" &&
                     text.front() != '-' && std::ranges::all_of(text, [](unsigned char c) {
                       return std::isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-';
                     });
  return plain ? text : nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string one_line(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < 0x20; }, ' ');
  return text;
}

std::string joined_aliases(const SettingInfo& info, std::string_view before, std::string_view after) {
  std::string text;
  const auto add = [&](std::string_view alias) {
    if (!alias.empty()) text += str(text.empty() ? "" : ", ", before, alias, after);
  };
  for (std::string_view alias : info.aliases) add(alias);
  for (const FieldName& field : field_names())
    if (field.setting == info.name) add(field.name);
  return text;
}

// "theirs: ours, theirs: ours"
std::string value_pairs(const FieldName& field) {
  std::string text;
  for (const char c : field.values)
    text += c == '|' ? std::string(", ") : c == '=' ? ": " : std::string(1, c);
  return text.ends_with(": ") ? text + "(nothing)" : text;
}

std::string_view resume_text(OnResume on_resume) {
  return on_resume == OnResume::kSame ? "same" : on_resume == OnResume::kRemark ? "said" : "";
}

std::string default_text(const SettingInfo& info) {
  const std::string text = value_text(info, Settings{});
  return text.empty() ? "(none)" : text;
}

}  // namespace

std::string settings_to_yaml(const ResolvedSettings& settings) {
  std::ostringstream out;
  std::string_view group;
  for (const SettingInfo& info : settings_table()) {
    if (info.group != group) out << (group.empty() ? "" : "\n") << "# " << info.group << "\n";
    group = info.group;
    out << info.name << ": " << yaml_scalar(info, value_text(info, settings.values)) << "  # "
        << one_line(settings.origin.at(std::string(info.name))) << "\n";
  }
  return out.str();
}

std::string settings_help(std::string_view group) {
  std::ostringstream out;
  std::string_view shown;
  for (const SettingInfo& info : settings_table()) {
    if (!group.empty() && info.group != group) continue;
    if (info.group != shown) out << (shown.empty() ? "" : "\n") << info.group << "\n";
    shown = info.group;
    out << "  --" << std::left << std::setw(30) << info.name << " " << info.help << "\n";
    out << std::string(35, ' ') << expected_text(info) << "; default " << default_text(info) << "\n";
    if (const std::string aliases = joined_aliases(info, "--", ""); !aliases.empty())
      out << std::string(35, ' ') << "also " << aliases << "\n";
  }
  return out.str();
}

std::string settings_markdown() {
  std::ostringstream out;
  out << "# Settings\n\n"
         "Written by `ithaca help settings --markdown`; a test keeps it up to date.\n\n"
         "Settings come from a YAML or JSON file, then from `--setting value`, `--setting=value` or "
         "`setting=value`; the last wins.\n"
         "`-` and `_` are the same in names. `--bf16`, `--bf16 True` and `--bf16=false` are all booleans. "
         "`null` leaves the default.\n"
         "`ithaca check cfg FILE` shows each value with its origin.\n\n"
         "`resume` says whether a run may go on from a checkpoint with another value: *same*, no; *said*, "
         "yes, with a "
         "line in the log; empty, freely (data count by their content, the model by its config.json).\n";
  std::string_view group;
  for (const SettingInfo& info : settings_table()) {
    if (info.group != group)
      out << "\n## " << info.group
          << "\n\n| setting | meaning | values | default | resume |\n|---|---|---|---|---|\n";
    group = info.group;
    const std::string aliases = joined_aliases(info, "`--", "`");
    out << "| `" << info.name << "` | " << info.help << (aliases.empty() ? "" : "; also " + aliases) << " | "
        << expected_text(info) << " | " << default_text(info) << " | " << resume_text(info.on_resume)
        << " |\n";
  }
  out << "\n## How `sequence_parallel_method: auto` chooses\n\n"
         "1. One rank a sequence: there is nothing to choose.\n"
         "2. Query heads that divide over the ranks, all on one machine: Ulysses.\n"
         "3. Rows packed from many documents (`packing`, a .jsonl), no more ranks than query heads: Ulysses, "
         "since its "
         "balance does not depend on the documents.\n"
         "4. Else the grid ring x Ulysses with the least estimated time: attention of the rank with the most "
         "heads, and "
         "what it sends, less what a ring sends while it computes. More ranks than query heads: two axes "
         "wherever "
         "their number allows it.\n\n"
         "`ulysses_degree` and `cp_window_size` limit the grids. `ithaca check` prints the choice, its "
         "reason and the "
         "estimates of the others; the constants are `kCpuCosts` in src/ithaca/config/sequence_plan.h.\n";
  out << "\n## Names of other programs\n\nWith their own words for the values.\n\n"
         "| name | setting | values |\n|---|---|---|\n";
  for (const FieldName& field : field_names())
    out << "| `--" << field.name << "` | `" << field.setting << "` | " << value_pairs(field) << " |\n";
  out << "\n`--context_parallel_size` without an algorithm, and `--ds_sequence_parallel_size`, mean "
         "`sequence_parallel_method: ulysses`.\n";
  out << "\n## Known, and not built yet\n\nGiven with another value than the accepted one, these are refused "
         "with the reason.\n\n"
         "| setting | accepted | reason |\n|---|---|---|\n";
  for (const FixedSetting& fixed : fixed_settings())
    out << "| `" << fixed.name << "` | " << (fixed.accepted.empty() ? "nothing" : fixed.accepted) << " | "
        << fixed.reason << " |\n";
  return out.str();
}

}  // namespace ithaca
