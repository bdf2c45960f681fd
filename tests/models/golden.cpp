#include "tests/models/golden.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <cstring>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/safetensors.h"

namespace ithaca::testing {
namespace {

at::Tensor to_tensor(const SafetensorsFile& file, const TensorInfo& info) {
  ITHACA_CHECK(info.dtype == DType::kF32 || info.dtype == DType::kI64, "golden tensors are F32 or I64");
  at::Tensor tensor = at::empty(info.shape, info.dtype == DType::kF32 ? at::kFloat : at::kLong);
  const auto bytes = file.data(info);
  ITHACA_CHECK(bytes.size() == tensor.nbytes(), "sizes");
  std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

}  // namespace

std::filesystem::path golden_folder() {
  return std::filesystem::path(ITHACA_SOURCE_DIR) / "tests/golden/models";
}

Golden read_golden(const std::string& name) {
  Golden golden{.config = read_model_config(golden_folder() / name), .tensors = {}};
  const SafetensorsFile file = SafetensorsFile::open(golden_folder() / name / "golden.safetensors");
  for (const auto& [key, info] : file.header().tensors) golden.tensors[key] = to_tensor(file, info);
  return golden;
}

std::unique_ptr<Decoder> Golden::decoder(at::ScalarType dtype) const {
  auto decoder = build_decoder(config, dtype);
  for (Parameter* parameter : decoder->parameters()) parameter->value.copy_(at("weight/" + parameter->name));
  return decoder;
}

DecoderInput Golden::input(int64_t step) const {
  DecoderInput input{
      .input_ids = at("input_ids").select(0, step), .position_ids = at("position_ids"), .pattern = {}};
  const auto documents = tensors.find("documents");
  if (documents == tensors.end()) return input;
  AttentionPattern pattern;
  for (const at::Tensor& row : documents->second.unbind(0)) {
    const auto* bounds = row.const_data_ptr<int64_t>();
    pattern.documents.emplace_back(bounds, bounds + row.numel());
  }
  input.pattern = pattern;
  return input;
}

}  // namespace ithaca::testing
