// Reads one case of tests/golden/models (tools/oracles/llama_goldens.py says what the tensors are).
#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "ithaca/models/registry.h"
#include "tests/nn/within.h"

namespace ithaca::testing {

std::filesystem::path golden_folder();

struct Golden {
  ModelConfig config;
  std::map<std::string, at::Tensor> tensors;

  const at::Tensor& at(const std::string& name) const { return tensors.at(name); }
  // The decoder with the case's weights, cast to dtype, and gradient buffers (`gradients`, flat).
  std::unique_ptr<Decoder> decoder(at::ScalarType dtype) const;
  // The rows of training step `step`.
  DecoderInput input(int64_t step) const;
  at::Tensor labels(int64_t step) const { return at("labels").select(0, step); }
};

Golden read_golden(const std::string& name);

}  // namespace ithaca::testing
