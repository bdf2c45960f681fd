// A model's config.json against the weights beside it, before anything is built. No torch.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "ithaca/checkpoint/weight_files.h"
#include "ithaca/config/settings.h"

namespace ithaca {

struct WantedTensor {
  std::string name;
  std::vector<int64_t> shape;
  const char* keys;  // of config.json, that give the shape
};

// What a model of this config has, named and shaped as Decoder::parameters().
std::vector<WantedTensor> wanted_tensors(const ModelConfig& config);

// The stored tensor that fills a parameter: the one of its name or, as in files of a base model, of its name without
// "model."; of a tied model that stores only its head, the head. Null: there is none.
const WeightFiles::Tensor* find_source(const WeightFiles& weights, const std::string& parameter, bool tied);

// Compares names, shapes and dtypes. UserError lists the problems: tensors that are missing, of another shape or no
// floats, and those that no model of this config has. Rotary frequencies of older files are known and computed anew.
void check_weights(const ModelConfig& config, const WeightFiles& weights,
                   const std::filesystem::path& folder);

// Where tie_word_embeddings is true but the weights hold a head that differs from the embedding, the model is not tied
// (as transformers has it); the config is changed and gets a note.
void untie_if_heads_differ(ModelConfig& config, const WeightFiles& weights,
                           const std::filesystem::path& folder);

// Section of docs/model_files.md.
std::string weights_markdown();

// config.json of model_name_or_path, checked against the weights beside it (unless train_from_scratch). UserError; without `weights_needed` a folder that has no weights is no mistake, and a note says
// that nothing was compared.
ModelConfig read_checked_config(const Settings& settings, bool weights_needed = true);

// A claim that this machine cannot hold is refused before anything is allocated: UserError with keys and figures.
void check_memory(const ModelConfig& config, const Settings& settings);

}  // namespace ithaca
