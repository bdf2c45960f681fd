#include "ithaca/checkpoint/weight_files.h"

#include <nlohmann/json.hpp>
#include <set>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/checkpoint/problem_list.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr std::size_t kMaxIndexBytes = std::size_t{256} << 20;

bool is_pickle(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".bin" || extension == ".pt" || extension == ".pth";
}

UserError no_weights(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (is_pickle(entry.path()))
      return UserError(
          str(entry.path().string(),
              ": pickled weights can carry code and are never read. Convert them once with transformers: ",
              "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"));
  return UserError(str(folder.string(), ": has neither ", kWeightsFile, " nor ", kWeightsIndex,
                       "; expected a Hugging Face model folder"));
}

}  // namespace

std::map<std::string, std::string> parse_weight_index(std::string_view text, const fs::path& folder,
                                                      const std::string& source) {
  const Json index = parse_json(text, source);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object())
    throw UserError(str(source, ": weight_map must be an object that gives each tensor's file"));
  std::map<std::string, std::string> files;
  std::set<std::string> told;  // a bad name is told once, however many tensors have it
  ProblemList problems;
  for (const auto& [name, value] : map->items()) {
    const std::string key = str("weight_map, tensor ", name.substr(0, 200));
    if (!value.is_string()) {
      problems.add(str(source, ": ", key, ": the file name must be a string"));
      continue;
    }
    const std::string& file = value.get_ref<const std::string&>();
    try {
      if (!told.count(file)) resolve_inside(folder, file, source, key);
      files.emplace(name, file);
    } catch (const UserError& error) {
      told.insert(file);
      problems.add(error.what());
    }
  }
  problems.throw_if_any(str(source, ": this index of weights is not to be trusted:"));
  return files;
}

void WeightFiles::take(const SafetensorsFile& file, const std::string& file_name) {
  for (const auto& [name, info] : file.header().tensors) {
    const auto entry = index_.find(name);
    // where two shards hold a tensor of one name, the index decides
    if (entry != index_.end() && entry->second == file_name)
      tensors_.insert_or_assign(name, Tensor{&file, &info});
    else
      tensors_.emplace(name, Tensor{&file, &info});
  }
}

WeightFiles WeightFiles::open(const fs::path& folder) {
  WeightFiles weights;
  if (fs::exists(folder / kWeightsFile)) {
    const auto [place, added] =
        weights.files_.emplace(kWeightsFile, SafetensorsFile::open(folder / kWeightsFile));
    weights.take(place->second, kWeightsFile);
    return weights;
  }
  const fs::path index = folder / kWeightsIndex;
  if (!fs::exists(index)) throw no_weights(folder);
  weights.index_ = parse_weight_index(read_file(index, kMaxIndexBytes), folder, index.string());
  std::set<std::string> names;
  for (const auto& [tensor, file] : weights.index_) names.insert(file);
  ProblemList problems;
  for (const std::string& name : names) {
    const fs::path path = folder / name;
    if (!fs::exists(path)) {
      weights.failed_.emplace(name, str(path.string(), ": cannot open: no such file"));
      continue;
    }
    try {
      const auto [place, added] = weights.files_.emplace(name, SafetensorsFile::open(path));
      weights.take(place->second, name);
    } catch (const UserError& error) {
      problems.add(error.what());
    }
  }
  problems.throw_if_any(str(folder.string(), ": these weights cannot be read:"));
  return weights;
}

std::string WeightFiles::why_missing(const std::string& tensor) const {
  const auto entry = index_.find(tensor);
  if (entry == index_.end()) return "";
  const auto failed = failed_.find(entry->second);
  if (failed != failed_.end()) return failed->second;
  return str(entry->second, " has no tensor ", tensor, ", though ", kWeightsIndex, " says so");
}

}  // namespace ithaca
