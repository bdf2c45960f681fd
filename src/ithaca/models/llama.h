// The Llama family: RMSNorm, rotary embedding, grouped-query attention, SwiGLU (Touvron et al. 2023, arXiv
// 2302.13971; Grattafiori et al. 2024, arXiv 2407.21783).
#pragma once
#include <memory>

#include "ithaca/models/decoder.h"

namespace ithaca {

// Parameters allocated and named as in Hugging Face's LlamaForCausalLM; uninitialised.
std::unique_ptr<Decoder> build_llama(const ModelConfig& config, at::ScalarType dtype, at::Device device);

}  // namespace ithaca
