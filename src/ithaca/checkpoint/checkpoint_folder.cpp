// The checkpoint protocol: names, integrity.json, renames and the search for the newest whole folder. No
// tensor is touched here.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/checkpoint/integrity.h"
#include "ithaca/checkpoint/training_state.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr const char* kIntegrity = "integrity.json";
constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kTemporary = ".tmp.";

fs::path final_path(const fs::path& output_dir, int64_t step) {
  return output_dir / str(kPrefix, step);
}

// The step of a name like checkpoint-120, else nothing.
std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
  return step;
}

// Regular files below `folder` by relative name, integrity.json apart. UserError for anything else than files
// and folders.
std::set<std::string> list_files(const fs::path& folder) {
  std::set<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    if (entry.is_symlink())
      throw UserError(str(entry.path().string(), ": is a symbolic link, expected a file"));
    if (entry.is_directory()) continue;
    if (!entry.is_regular_file()) throw UserError(str(entry.path().string(), ": is not a regular file"));
    if (name != kIntegrity) files.insert(name);
  }
  return files;
}

void sync_folders(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_directory()) sync_path(entry.path());
  sync_path(folder);
}

void rename_folder(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    throw UserError(str(to.string(), ": cannot rename ", from.string(), " to it: ", error.message()));
}

// `temporary` becomes `target`; what was there before is deleted only afterwards.
void move_into_place(const fs::path& temporary, const fs::path& target) {
  if (!fs::exists(target)) {
    rename_folder(temporary, target);
    return sync_path(target.parent_path());
  }
  fs::path old = temporary;
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) != 0) {
    // no exchange on this file system: a crash between the two renames leaves both under names that are not
    // searched, but whole
    old += ".old";
    rename_folder(target, old);
    rename_folder(temporary, target);
  }
  sync_path(target.parent_path());
  fs::remove_all(old);
}

std::vector<FoundCheckpoint> list_checkpoints(const fs::path& output_dir) {
  std::vector<FoundCheckpoint> found;
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const std::optional<int64_t> step = step_of(entry.path().filename().string());
    if (step && entry.is_directory()) found.push_back({entry.path(), *step});
  }
  std::sort(found.begin(), found.end(),
            [](const FoundCheckpoint& a, const FoundCheckpoint& b) { return a.step > b.step; });
  return found;
}

// integrity.json and what it says of names and sizes; returns its list of files. UserError with the reason otherwise.
std::map<std::string, FileIntegrity> check_names_and_sizes(const fs::path& folder) {
  const fs::path integrity_path = folder / kIntegrity;
  if (!fs::is_directory(folder)) throw UserError(str(folder.string(), ": no such folder"));
  if (!fs::exists(integrity_path))
    throw UserError(str(integrity_path.string(), ": is missing: the checkpoint was not finished"));
  const std::map<std::string, FileIntegrity> listed = parse_integrity(
      read_json_file(integrity_path), step_of(folder.filename().string()), integrity_path.string());
  const std::set<std::string> present = list_files(folder);
  for (const auto& [name, entry] : listed)
    if (!present.count(name))
      throw UserError(str((folder / name).string(), ": is missing, integrity.json lists it"));
  for (const std::string& name : present)
    if (!listed.contains(name)) throw UserError(str((folder / name).string(), ": is not in integrity.json"));
  for (const auto& [name, entry] : listed) {
    const uint64_t size = fs::file_size(folder / name);
    if (size != entry.size)
      throw UserError(
          str((folder / name).string(), ": has ", size, " bytes, integrity.json says ", entry.size));
  }
  return listed;
}

bool looks_whole(const fs::path& folder) {
  try {
    check_names_and_sizes(folder);
    return true;
  } catch (const std::exception&) {  // whatever is wrong with it, it is not whole
    return false;
  }
}

void delete_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) throw UserError(str(folder.string(), ": cannot be deleted: ", error.message()));
}

void delete_oldest(const fs::path& output_dir, const fs::path& keep, int64_t save_total_limit) {
  if (save_total_limit <= 0) return;
  int64_t kept = 1;
  for (const FoundCheckpoint& checkpoint : list_checkpoints(output_dir)) {
    if (checkpoint.path == keep) continue;
    if (kept >= save_total_limit)
      delete_folder(checkpoint.path);
    else if (looks_whole(checkpoint.path))
      ++kept;
  }
}

// A folder of begin_checkpoint, or what move_into_place put aside: checkpoint-STEP.tmp.PID-NONCE[.old].
struct Unfinished {
  fs::path path;
  std::string step;
  int64_t pid = 0;
};

std::vector<Unfinished> list_unfinished(const fs::path& output_dir) {
  std::vector<Unfinished> found;
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename().string();
    const std::size_t at = name.find(kTemporary);
    if (at == std::string::npos || !step_of(std::string_view(name).substr(0, at)) || !entry.is_directory())
      continue;
    Unfinished one{entry.path(), name.substr(0, at)};
    const char* pid = name.data() + at + kTemporary.size();
    std::from_chars(pid, name.data() + name.size(), one.pid);
    found.push_back(one);
  }
  return found;
}

// Only one run writes into an output_dir, on one machine: a process that is not here any more is dead.
void delete_leftovers(const fs::path& output_dir) {
  for (const Unfinished& one : list_unfinished(output_dir)) {
    const bool alive = one.pid > 0 && (::kill(static_cast<pid_t>(one.pid), 0) == 0 || errno != ESRCH);
    const bool only_copy = !fs::exists(output_dir / one.step) && fs::exists(one.path / kIntegrity);
    if (!alive && !only_copy) delete_folder(one.path);
  }
}

}  // namespace

fs::path begin_checkpoint(const fs::path& output_dir, int64_t step) {
  std::random_device random;
  fs::path temporary = output_dir / str(kPrefix, step, kTemporary, ::getpid(), "-", random());
  std::error_code error;
  fs::create_directories(output_dir, error);
  if (!error) delete_leftovers(output_dir);
  if (error || !fs::create_directory(temporary, error))
    throw UserError(
        str(temporary.string(), ": cannot make the folder: ", error.message(), "; is output_dir writable?"));
  return temporary;
}

fs::path commit_checkpoint(const fs::path& temporary, const fs::path& output_dir, int64_t step,
                           int64_t save_total_limit) {
  Json files = Json::object();
  for (const std::string& name : list_files(temporary)) {
    const fs::path path = temporary / name;
    sync_path(path);
    files[name] = {{"size", fs::file_size(path)}, {"sha256", sha256_of_file(path)}};
  }
  write_json_file(temporary / kIntegrity, {{"format", 1}, {"step", step}, {"files", files}});
  sync_folders(temporary);
  fs::path target = final_path(output_dir, step);
  move_into_place(temporary, target);
  delete_oldest(output_dir, target, save_total_limit);
  return target;
}

void verify_checkpoint(const fs::path& folder) {
  for (const auto& [name, entry] : check_names_and_sizes(folder))
    if (sha256_of_file(folder / name) != entry.sha256)
      throw UserError(
          str((folder / name).string(),
              ": its SHA-256 differs from integrity.json: the file was changed after it was saved"));
}

void remove_checkpoints(const fs::path& output_dir) {
  if (!fs::is_directory(output_dir)) return;
  for (const FoundCheckpoint& checkpoint : list_checkpoints(output_dir)) delete_folder(checkpoint.path);
  for (const Unfinished& one : list_unfinished(output_dir)) delete_folder(one.path);
  sync_path(output_dir);
}

std::vector<fs::path> set_aside_checkpoints(const fs::path& output_dir, const fs::path& start) {
  std::vector<fs::path> moved;
  if (!fs::is_directory(output_dir)) return moved;
  const fs::path own = fs::weakly_canonical(start);
  const bool inside = own.parent_path() == fs::weakly_canonical(output_dir);
  const int64_t keep = inside ? step_of(own.filename().string()).value_or(-1) : -1;
  for (const FoundCheckpoint& checkpoint : list_checkpoints(output_dir)) {
    if (checkpoint.step <= keep) continue;
    const std::string name = "abandoned-" + checkpoint.path.filename().string();
    fs::path target = output_dir / name;
    for (int k = 2; fs::exists(target); ++k) target = output_dir / str(name, "-", k);
    rename_folder(checkpoint.path, target);
    moved.push_back(target);
  }
  if (!moved.empty()) sync_path(output_dir);
  return moved;
}

std::optional<FoundCheckpoint> find_checkpoint(const fs::path& output_dir,
                                               std::vector<std::string>& skipped) {
  if (!fs::is_directory(output_dir)) return std::nullopt;
  for (const Unfinished& one : list_unfinished(output_dir))
    skipped.push_back(str(one.path.string(), ": was never finished; the next save deletes it"));
  for (const FoundCheckpoint& checkpoint : list_checkpoints(output_dir)) {
    try {
      verify_checkpoint(checkpoint.path);
      return checkpoint;
    } catch (const std::exception& error) {  // whatever is wrong with one folder, an older one may do
      skipped.push_back(str(checkpoint.path.string(), ": ", error.what()));
    }
  }
  return std::nullopt;
}

}  // namespace ithaca
