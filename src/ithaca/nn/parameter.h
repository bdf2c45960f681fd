// A trainable tensor and the buffer that collects its gradient. Gradients do not go through autograd's
// accumulation: each layer's backward adds to `grad` itself, in opmath, so that bf16 micro-batches are summed
// in float32 and a weight used twice (tied embedding and head) is summed there as well.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace ithaca {

// float32 for float32, bfloat16 and float16; float64 for float64.
at::ScalarType opmath(at::ScalarType dtype);

struct Parameter {
  std::string name;  // Hugging Face name, e.g. model.layers.3.mlp.up_proj.weight
  at::Tensor value;  // compute dtype
  at::Tensor grad;   // opmath, value's shape; undefined until gradient buffers are given (allocate_gradients)
  bool requires_grad = true;
  // grad is zero and its memory not in use: gradient() writes the zeros, because adding to such pages would
  // have the system supply each of them twice, first to read and then to write.
  bool grad_unused = false;

  // The buffer to add to; a check that names the parameter fails when none was given.
  at::Tensor& gradient();
  // grad += g (any dtype, value's number of elements). Nothing when requires_grad is false.
  void accumulate(const at::Tensor& g);
};

using ParameterList = std::vector<Parameter*>;

// Where parameters lie in one flat buffer: list order, each start aligned to 64 bytes of the parameter's type
// (and so of its gradient's). Those that require no grad take no room.
struct FlatLayout {
  std::vector<int64_t> starts;  // by parameter, in elements
  int64_t total = 0;            // a multiple of `multiple`
};
FlatLayout flat_layout(const ParameterList& parameters, int64_t multiple = 1);

// One flat zeroed opmath buffer for all gradients; sets every grad to its view and returns the buffer (reduced
// and cleared in one call). The grad of a parameter that requires none becomes undefined.
at::Tensor allocate_gradients(const ParameterList& parameters, int64_t multiple = 1);
// Moves the trainable values into one flat buffer of the same layout and returns it. A check fails where they
// are of several types.
at::Tensor flatten_values(const ParameterList& parameters, int64_t multiple = 1);

}  // namespace ithaca
