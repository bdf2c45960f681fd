// A decoder-only language model on one device: embedding, layers, final norm, head. Parallelism stays
// outside: its forms replace each attention's core, wrap run_layer and hand in position_ids and patterns of
// the rows at hand.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "ithaca/config/model_config.h"
#include "ithaca/nn/attention.h"
#include "ithaca/nn/embedding.h"
#include "ithaca/nn/mlp.h"
#include "ithaca/nn/norm.h"

namespace ithaca {

// What every layer of one forward pass shares.
struct LayerContext {
  RopeTables rope = {};             // of the rows at hand; undefined where the pattern has ALiBi slopes
  SharedPattern pattern;            // global positions
  AttentionStash* stash = nullptr;  // of the layer at hand, under activation checkpointing
};

struct DecoderLayer {
  int64_t index = 0;  // global
  RmsNorm input_layernorm, post_attention_layernorm;
  Attention self_attn;
  GatedMlp mlp;
  at::Tensor forward(const at::Tensor& x, const LayerContext& context);  // x [B, S, C]
};

using RunLayer =
    std::function<at::Tensor(DecoderLayer& layer, const at::Tensor& x, const LayerContext& context)>;

// Rows as the decoder sees them: all of a batch, or a part of it.
struct DecoderInput {
  at::Tensor input_ids;     // [B, S] int64
  at::Tensor position_ids;  // [B, S] int64, restart with each document
  SharedPattern pattern;
  int64_t sequence_length = 0;  // global length of a row (dynamic rope); 0: S
};

class Decoder {
 public:
  ModelConfig config;
  AttentionPattern
      pattern;  // of the model: causal, window, slopes, sparse blocks; inputs add their documents
  Embedding embed_tokens;
  std::vector<DecoderLayer> layers;
  RmsNorm norm;
  std::optional<Parameter> lm_head;  // absent: tied to embed_tokens
  RunLayer run_layer;                // empty: layer.forward(x, context)

  at::Tensor hidden(const DecoderInput& input);  // [B, S, C], after the final norm
  at::Tensor logits(
      const at::Tensor& hidden);  // [B, S, V]; differentiable, but holds them all: for generation and tests
  // Sum of token losses, 0-dim opmath (nn/linear_cross_entropy.h). labels [B, S], already shifted.
  at::Tensor loss_sum(const DecoderInput& input, const at::Tensor& labels);

  Parameter& head();
  ParameterList parameters();  // in Hugging Face order; a tied head is not listed twice
  at::ScalarType dtype() const { return embed_tokens.weight.value.scalar_type(); }
};

}  // namespace ithaca
