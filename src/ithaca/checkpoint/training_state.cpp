#include "ithaca/checkpoint/training_state.h"

#include <nlohmann/json.hpp>
#include <set>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/safetensors.h"
#include "ithaca/checkpoint/tensor_io.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr const char* kState = "training_state.json";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr int kFormat = 1;

void compare(const StoredPart& wanted, const SafetensorsHeader& header, Problems& problems) {
  const std::string& name = wanted.name;
  const auto found = header.tensors.find(name);
  if (found == header.tensors.end()) return problems.add(str("tensor ", name, " is missing"));
  const TensorInfo& info = found->second;
  const DType dtype = dtype_of(wanted.dtype);
  if (info.dtype != dtype)
    problems.add(
        str("tensor ", name, " has dtype ", dtype_name(info.dtype), ", this run needs ", dtype_name(dtype)));
  if (info.shape != wanted.sizes)
    problems.add(str("tensor ", name, " has shape ", shape_text(info.shape), ", this run needs ",
                     shape_text(wanted.sizes)));
}

}  // namespace

void write_training_state(const fs::path& folder, const TrainingState& state,
                          const std::vector<StoredTensor>& optimizer) {
  std::vector<TensorToWrite> tensors;
  for (const StoredTensor& tensor : optimizer)
    tensors.push_back(tensor_to_write(tensor.name, tensor.dtype, tensor.sizes, tensor.whole));
  write_safetensors(folder / kOptimizer, tensors);
  write_json_file(folder / kState, {{"format", kFormat}, {"step", state.step}, {"state", state.state}});
}

TrainingState read_training_state(const fs::path& folder) {
  const fs::path path = folder / kState;
  const Json json = read_json_file(path);
  if (!json.is_object() || json.value("format", Json()) != Json(kFormat) ||
      !json.value("step", Json()).is_number_integer() || !json.contains("state"))
    throw UserError(str(path.string(), ": expected format ", kFormat, ", a step and a state"));
  return {json["step"].get<int64_t>(), json["state"]};
}

void read_optimizer_state(const fs::path& folder, const std::vector<StoredPart>& optimizer) {
  const SafetensorsFile file = SafetensorsFile::open(folder / kOptimizer);
  Problems problems;
  std::set<std::string> wanted;
  for (const StoredPart& part : optimizer) {
    wanted.insert(part.name);
    compare(part, file.header(), problems);
  }
  for (const auto& [name, info] : file.header().tensors)
    if (!wanted.count(name)) problems.add(str("tensor ", name, " is not used by this run"));
  problems.throw_if_any(str((folder / kOptimizer).string(), ": does not fit this model and optimizer:"));
  for (const StoredPart& part : optimizer)
    if (part.part.defined())
      copy_stored_part(file, file.header().tensors.at(part.name), part.begin, part.part);
}

}  // namespace ithaca
