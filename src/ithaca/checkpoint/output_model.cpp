#include "ithaca/checkpoint/output_model.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kWhole = "model.new";
constexpr const char* kTemporary = "model.tmp.";
constexpr const char* kList = "files.json";  // names of the model's files; only in kWhole

void rename_path(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    throw UserError(str(to.string(), ": cannot rename ", from.string(), " to it: ", error.message()));
}

void remove_path(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw UserError(str(path.string(), ": cannot be deleted: ", error.message()));
}

std::vector<fs::path> weights_of(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool weights = name.starts_with("model") && name.ends_with(".safetensors");
    if (weights || name == "model.safetensors.index.json") found.push_back(entry.path());
  }
  return found;
}

}  // namespace

fs::path begin_model(const fs::path& output_dir) {
  // One run writes into an output_dir: what is there is of a process that was killed.
  remove_unfinished_model(output_dir);
  std::random_device random;
  fs::path folder = output_dir / str(kTemporary, ::getpid(), "-", random());
  std::error_code error;
  if (!fs::create_directory(folder, error))
    throw UserError(
        str(folder.string(), ": cannot make the folder: ", error.message(), "; is output_dir writable?"));
  return folder;
}

void commit_model(const fs::path& folder, const fs::path& output_dir) {
  Json names = Json::array();
  for (const auto& entry : fs::directory_iterator(folder)) {
    ITHACA_CHECK(entry.is_regular_file(), entry.path().string());
    sync_path(entry.path());
    names.push_back(entry.path().filename().string());
  }
  write_json_file(folder / kList, names);
  sync_path(folder);
  rename_path(folder, output_dir / kWhole);
  sync_path(output_dir);
  finish_model(output_dir);
}

void finish_model(const fs::path& output_dir) {
  const fs::path whole = output_dir / kWhole;
  if (!fs::is_directory(whole)) return;
  const auto names = read_json_file(whole / kList).get<std::set<std::string>>();
  if (fs::exists(whole / kConfig)) {  // else it has come over already, as the last of all
    remove_path(output_dir / kConfig);
    sync_path(output_dir);
  }
  for (const fs::path& path : weights_of(output_dir))
    if (!names.contains(path.filename().string())) remove_path(path);
  for (const std::string& name : names)
    if (name != kConfig && fs::exists(whole / name)) rename_path(whole / name, output_dir / name);
  sync_path(output_dir);
  if (fs::exists(whole / kConfig)) rename_path(whole / kConfig, output_dir / kConfig);
  sync_path(output_dir);
  remove_path(whole);
}

void remove_unfinished_model(const fs::path& output_dir) {
  if (!fs::is_directory(output_dir)) return;
  std::vector<fs::path> unfinished;
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename().string();
    if (name == kWhole || name.starts_with(kTemporary)) unfinished.push_back(entry.path());
  }
  for (const fs::path& path : unfinished) remove_path(path);
}

}  // namespace ithaca
