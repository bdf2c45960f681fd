// Between safetensors bytes and tensors.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "ithaca/checkpoint/safetensors.h"

namespace ithaca {

at::ScalarType scalar_type_of(DType dtype);
DType dtype_of(at::ScalarType type);  // a check fails for types that safetensors does not know

// The tensor's bytes, row-major; it may lie on any device and is kept alive by the result.
TensorToWrite tensor_to_write(const std::string& name, const at::Tensor& tensor);
// The same of a tensor that is made when its turn comes: `make` is called once, and gives these sizes and type.
TensorToWrite tensor_to_write(const std::string& name, at::ScalarType dtype,
                              const std::vector<int64_t>& sizes, std::function<at::Tensor()> make);

// Copies (and casts) a stored tensor of the same number of elements into `target`'s own storage.
void copy_stored_tensor(const SafetensorsFile& file, const TensorInfo& info, const at::Tensor& target);
// The same of target.numel() elements from element `begin` on, row-major.
void copy_stored_part(const SafetensorsFile& file, const TensorInfo& info, int64_t begin,
                      const at::Tensor& target);

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace ithaca
