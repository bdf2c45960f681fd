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
  return tensor_to_write(name, tensor.scalar_type(), tensor.sizes().vec(), [tensor] { return tensor; });
}

TensorToWrite tensor_to_write(const std::string& name, at::ScalarType dtype,
                              const std::vector<int64_t>& sizes, std::function<at::Tensor()> make) {
  // What is made, or copied from another device, lives until the next tensor's turn.
  auto kept = std::make_shared<at::Tensor>();
  return {name, dtype_of(dtype), sizes,
          [make = std::move(make), kept, dtype, sizes]() -> std::span<const std::byte> {
            *kept = make().detach().to(at::kCPU).contiguous();
            ITHACA_CHECK(kept->scalar_type() == dtype && kept->sizes() == at::IntArrayRef(sizes), "made ",
                         kept->sizes(), ", announced ", at::IntArrayRef(sizes));
            return {static_cast<const std::byte*>(kept->const_data_ptr()), kept->nbytes()};
          }};
}

void copy_stored_tensor(const SafetensorsFile& file, const TensorInfo& info, const at::Tensor& target) {
  copy_stored_part(file, info, 0, target);
}

void copy_stored_part(const SafetensorsFile& file, const TensorInfo& info, int64_t begin,
                      const at::Tensor& target) {
  at::NoGradGuard no_grad;
  const std::size_t size = dtype_size(info.dtype), count = static_cast<std::size_t>(target.numel());
  if (count == 0) return;
  const std::span<const std::byte> bytes =
      file.data(info).subspan(static_cast<std::size_t>(begin) * size, count * size);
  const auto options = at::TensorOptions().dtype(scalar_type_of(info.dtype));
  at::Tensor source;
  if (reinterpret_cast<uintptr_t>(bytes.data()) % size == 0) {
    // only read, though from_blob takes no pointer to const
    source = at::from_blob(const_cast<std::byte*>(bytes.data()), {target.numel()}, options);
  } else {
    source = at::empty({target.numel()}, options);
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
