// The families that can be built, as an explicit list: one entry a family (llama.cpp: the block and the names of its
// parameters). Their config keys are declared in config/model_keys.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "ithaca/models/decoder.h"

namespace ithaca {

// All parameters allocated (64-byte aligned, uninitialised) and named. UserError names the known
// architectures.
std::unique_ptr<Decoder> build_decoder(const ModelConfig& config, at::ScalarType dtype,
                                       at::Device device = at::kCPU);

// Normal(0, initializer_range) for matrices, ones for norms, zeros for biases, as transformers does; drawn in
// parameter order, in float32, from `seed`.
void initialize_weights(Decoder& decoder, uint64_t seed);

std::vector<std::string> known_architectures();

}  // namespace ithaca
