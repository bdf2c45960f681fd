#include <fnmatch.h>

#include <cstdio>

#include "cli/commands.h"
#include "ithaca/base/error.h"

namespace ithaca {

int run_list_cfg(const Words& words) {
  const bool filtered = words.size() == 2 && (words[0] == "-p" || words[0] == "--pattern");
  if (!words.empty() && !filtered) throw UserError("list-cfg: expected nothing, or -p PATTERN");
  const std::string pattern = filtered ? "*" + words[1] + "*" : "*";
  int shown = 0;
  for (const Recipe& recipe : recipes()) {
    const std::string file(recipe.name);
    if (!file.ends_with(".yaml")) continue;
    const std::string name = file.substr(0, file.size() - 5);
    if (fnmatch(pattern.c_str(), name.c_str(), 0) != 0) continue;
    // the first line of a recipe says what it is
    const std::string first(recipe.text.substr(0, recipe.text.find('\n')));
    std::printf("%-32s %s\n", name.c_str(), first.substr(first.find_first_not_of("# ")).c_str());
    ++shown;
  }
  if (shown == 0)
    throw UserError(
        str("list-cfg -p ", words[1], ": no recipe has such a name (`ithaca list-cfg` shows all)"));
  return kDone;
}

}  // namespace ithaca
