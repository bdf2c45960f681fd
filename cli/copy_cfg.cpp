#include <cstdio>
#include <filesystem>

#include "cli/commands.h"
#include "ithaca/base/error.h"
#include "ithaca/base/file.h"

namespace fs = std::filesystem;

namespace ithaca {

int run_copy_cfg(const Words& words) {
  if (words.size() != 2)
    throw UserError("copy-cfg: expected NAME and DIR, such as: ithaca copy-cfg smollm2_135m_sp2_cpu .");
  const std::string name = words[0].ends_with(".yaml") ? words[0].substr(0, words[0].size() - 5) : words[0];
  std::vector<const Recipe*> files;
  for (const Recipe& recipe : recipes())
    if (recipe.name == name + ".yaml" || recipe.name.starts_with(name + "/")) files.push_back(&recipe);
  if (files.empty() || name.empty())
    throw UserError(str("copy-cfg ", words[0], ": no such recipe; `ithaca list-cfg` names them"));
  const fs::path folder = words[1];
  for (const Recipe* file : files)
    if (fs::exists(folder / file->name))
      throw UserError(
          str((folder / file->name).string(), " exists already; choose another folder or remove it"));
  for (const Recipe* file : files) {
    const fs::path target = folder / file->name;
    std::error_code error;
    if (target.has_parent_path()) fs::create_directories(target.parent_path(), error);
    if (error)
      throw UserError(str(target.parent_path().string(), ": cannot make this folder: ", error.message()));
    write_file(target, file->text);
    std::printf("%s\n", target.c_str());
  }
  return kDone;
}

}  // namespace ithaca
