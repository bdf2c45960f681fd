// Where settings are written: a YAML or JSON file and the command line, each turned into the same list. Used
// inside config/ only.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/base/error.h"

namespace ithaca {

// One setting as the user wrote it.
struct WrittenSetting {
  std::string key;     // as written, without leading dashes
  std::string value;   // text
  std::string origin;  // "FILE:line" or "--flag"
  std::string typed;   // for messages: "FILE:line: key: value" or "--flag value"
  bool from_file = false;
  std::string words = {};    // on the command line: as typed, quoted for a shell
  std::string setting = {};  // that is meant, where it is not the one `key` names
};

// A flat YAML mapping of scalars, one document. Nested values, anchors and aliases are refused at their line, a second
// document, syntax errors and what is no UTF-8 too (as a UserError), keys with no value are left out (the default stays). Parsed as events, so nothing is
// built from what the file may nest.
std::vector<WrittenSetting> read_yaml_settings(std::string_view text, const std::string& name,
                                               Problems& problems);
std::vector<WrittenSetting> read_json_settings(std::string_view text, const std::string& name,
                                               Problems& problems);
std::vector<WrittenSetting> read_arguments(const std::vector<std::string>& arguments, Problems& problems);

}  // namespace ithaca
