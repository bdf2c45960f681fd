#include "ithaca/checkpoint/tensor_io.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <array>
#include <cstring>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr std::array<std::pair<DType, at::ScalarType>, 10> kTypes = {{{DType::kF64, at::kDouble},
                                                                      {DType::kF32, at::kFloat},
                                                                      {DType::kF16, at::kHalf},
                                                                      {DType::kBF16, at::kBFloat16},
                                                                      {DType::kI64, at::kLong},
                                                                      {DType::kI32, at::kInt},
                                                                      {DType::kI16, at::kShort},
                                                                      {DType::kI8, at::kChar},
                                                                      {DType::kU8, at::kByte},
                                                                      {DType::kBool, at::kBool}}};

}  // namespace

at::ScalarType scalar_type_of(DType dtype) {
  for (const auto& [stored, type] : kTypes)
    if (stored == dtype) return type;
  ITHACA_CHECK(false, "dtype ", static_cast<int>(dtype));
  return at::kFloat;
}

DType dtype_of(at::ScalarType type) {
  for (const auto& [stored, known] : kTypes)
    if (known == type) return stored;
  ITHACA_CHECK(false, "safetensors has no dtype for ", c10::toString(type));
  return DType::kF32;
}

TensorToWrite tensor_to_write(const std::string& name, const at::Tensor& tensor) {
  // On another device or not contiguous, the copy is made when its turn comes and lives until the next
  // tensor's
  auto copy = std::make_shared<at::Tensor>();
  return {name, dtype_of(tensor.scalar_type()), tensor.sizes().vec(),
          [tensor, copy]() -> std::span<const std::byte> {
            *copy = tensor.detach().to(at::kCPU).contiguous();
            return {static_cast<const std::byte*>(copy->const_data_ptr()), copy->nbytes()};
          }};
}

void copy_stored_tensor(const SafetensorsFile& file, const TensorInfo& info, const at::Tensor& target) {
  at::NoGradGuard no_grad;
  const std::span<const std::byte> bytes = file.data(info);
  if (bytes.empty()) return;
  const auto options = at::TensorOptions().dtype(scalar_type_of(info.dtype));
  at::Tensor source;
  if (reinterpret_cast<uintptr_t>(bytes.data()) % dtype_size(info.dtype) == 0) {
    // only read, though from_blob takes no pointer to const
    source = at::from_blob(const_cast<std::byte*>(bytes.data()), info.shape, options);
  } else {
    source = at::empty(info.shape, options);
    std::memcpy(source.mutable_data_ptr(), bytes.data(), bytes.size());
  }
  target.copy_(source.view(target.sizes()));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += str(text.size() > 1 ? ", " : "", size);
  return text + "]";
}

}  // namespace ithaca
