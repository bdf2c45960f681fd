#include "ithaca/config/settings.h"

namespace ithaca {

std::filesystem::path model_folder(const Settings& settings) {
  const std::filesystem::path path = settings.model_name_or_path;
  if (path.filename() != "config.json") return path;
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace ithaca
