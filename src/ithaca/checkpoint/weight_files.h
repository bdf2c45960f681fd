// The weight files of a Hugging Face model folder, headers only: one file, or shards and their index. No torch.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/checkpoint/safetensors.h"

namespace ithaca {

constexpr const char* kWeightsFile = "model.safetensors";
constexpr const char* kWeightsIndex = "model.safetensors.index.json";

// tensor -> file name of an index. Every name is a plain one (base/file.h, resolve_inside); UserError lists those that
// are not. `folder` is named in messages only.
std::map<std::string, std::string> parse_weight_index(std::string_view text,
                                                      const std::filesystem::path& folder,
                                                      const std::string& source);

class WeightFiles {
 public:
  struct Tensor {
    const SafetensorsFile* file;
    const TensorInfo* info;
  };

  // UserError where the folder has no weights (pickled ones are named, with the way to convert them), an index with a
  // name that leads out of the folder, or a file that is no safetensors file. Entries of an index whose file or tensor
  // is not there are no reason to refuse: whoever needs that tensor does not find it.
  static WeightFiles open(const std::filesystem::path& folder);

  // Every tensor that is there, by its name in the file. Valid while this object lives, also after a move.
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  // What became of an index entry without its tensor: "FILE: cannot open", "FILE: has no such tensor"; empty: it has
  // no entry.
  std::string why_missing(const std::string& tensor) const;

 private:
  void take(const SafetensorsFile& file, const std::string& file_name);

  std::map<std::string, std::string> index_;  // empty for a single file
  std::map<std::string, SafetensorsFile> files_;
  std::map<std::string, std::string> failed_;  // file name -> why it could not be opened
  std::map<std::string, Tensor> tensors_;
};

}  // namespace ithaca
