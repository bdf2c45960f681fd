// Between safetensors bytes and tensors.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "ithaca/checkpoint/safetensors.h"

namespace ithaca {

at::ScalarType scalar_type_of(DType dtype);
DType dtype_of(at::ScalarType type);  // a check fails for types that safetensors does not know

// The tensor's bytes, row-major; it may lie on any device and is kept alive by the result.
TensorToWrite tensor_to_write(const std::string& name, const at::Tensor& tensor);

// Copies (and casts) a stored tensor of the same number of elements into `target`'s own storage.
void copy_stored_tensor(const SafetensorsFile& file, const TensorInfo& info, const at::Tensor& target);

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace ithaca
