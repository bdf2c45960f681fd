// B batch, S local length, C hidden, V vocabulary.
#include "ithaca/models/decoder.h"

#include "ithaca/base/error.h"
#include "ithaca/nn/linear_cross_entropy.h"

namespace ithaca {
namespace {

void add_linear(ParameterList& list, Linear& linear) {
  list.push_back(&linear.weight);
  if (linear.bias) list.push_back(&*linear.bias);
}

}  // namespace

at::Tensor DecoderLayer::forward(const at::Tensor& x, const LayerContext& context) {
  const at::Tensor h =
      x.add(self_attn.forward(input_layernorm.forward(x), context.rope, context.pattern, context.stash));
  return h.add(mlp.forward(post_attention_layernorm.forward(h)));
}

at::Tensor Decoder::hidden(const DecoderInput& input) {
  ITHACA_CHECK(input.position_ids.sizes() == input.input_ids.sizes(), "position_ids ",
               input.position_ids.sizes(), " do not belong to input_ids ", input.input_ids.sizes());
  const int64_t length = input.sequence_length != 0 ? input.sequence_length : input.input_ids.size(1);
  LayerContext context{.pattern = input.pattern};
  if (input.pattern->alibi_slopes.empty())
    context.rope = rope_tables(config.rope, config.head_dim, input.position_ids, length, opmath(dtype()));
  at::Tensor x = embed_tokens.forward(input.input_ids);
  for (DecoderLayer& layer : layers) x = run_layer ? run_layer(layer, x, context) : layer.forward(x, context);
  return norm.forward(x);
}

at::Tensor Decoder::logits(const at::Tensor& hidden) {
  return linear(hidden, head());
}

at::Tensor Decoder::loss_sum(const DecoderInput& input, const at::Tensor& labels) {
  return linear_cross_entropy_loss(hidden(input), head(), labels);
}

Parameter& Decoder::head() {
  return lm_head ? *lm_head : embed_tokens.weight;
}

ParameterList Decoder::parameters() {
  ParameterList list = {&embed_tokens.weight};
  for (DecoderLayer& layer : layers) {
    for (Linear* linear :
         {&layer.self_attn.q_proj, &layer.self_attn.k_proj, &layer.self_attn.v_proj, &layer.self_attn.o_proj,
          &layer.mlp.gate_proj, &layer.mlp.up_proj, &layer.mlp.down_proj}) {
      add_linear(list, *linear);
    }
    list.push_back(&layer.input_layernorm.weight);
    list.push_back(&layer.post_attention_layernorm.weight);
  }
  list.push_back(&norm.weight);
  if (lm_head) list.push_back(&*lm_head);
  return list;
}

}  // namespace ithaca
