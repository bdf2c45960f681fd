#include "ithaca/models/registry.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <array>

#include "ithaca/base/error.h"
#include "ithaca/models/llama.h"

namespace ithaca {
namespace {

struct Family {
  const char* architecture;
  std::unique_ptr<Decoder> (*build)(const ModelConfig&, at::ScalarType, at::Device);
};

// Mistral without a sliding window is the same block.
constexpr std::array kFamilies = {Family{"LlamaForCausalLM", build_llama},
                                  Family{"MistralForCausalLM", build_llama}};

}  // namespace

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) names.emplace_back(family.architecture);
  return names;
}

std::unique_ptr<Decoder> build_decoder(const ModelConfig& config, at::ScalarType dtype, at::Device device) {
  for (const Family& family : kFamilies) {
    if (config.architecture == family.architecture) return family.build(config, dtype, device);
  }
  std::string known;
  for (const std::string& name : known_architectures()) known += (known.empty() ? "" : ", ") + name;
  throw UserError(str("config.json: architectures: '", config.architecture,
                      "' cannot be built; known: ", known, ". Choose a model of one of these families"));
}

void initialize_weights(Decoder& decoder, uint64_t seed) {
  at::NoGradGuard no_grad;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  for (Parameter* parameter : decoder.parameters()) {
    at::Tensor& value = parameter->value;
    if (value.dim() > 1) {
      at::Tensor drawn = at::empty(value.sizes(), at::kFloat);
      value.copy_(drawn.normal_(0.0, decoder.config.initializer_range, generator));
    } else {
      value.fill_(parameter->name.ends_with(".bias") ? 0.0 : 1.0);
    }
  }
  Embedding& embedding = decoder.embed_tokens;
  if (embedding.padding_idx >= 0) embedding.weight.value.select(0, embedding.padding_idx).zero_();
}

}  // namespace ithaca
