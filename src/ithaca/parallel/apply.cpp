#include "ithaca/parallel/apply.h"

#include "ithaca/config/layout.h"
#include "ithaca/parallel/memory/activation_checkpoint.h"
#include "ithaca/parallel/sequence/ulysses.h"

namespace ithaca {

void apply_parallelism(Decoder& decoder, const ParallelPlan& plan, DeviceMesh& mesh,
                       AttentionBackend backend) {
  split_heads(decoder.layers.front().self_attn.heads,
              plan.degrees.ulysses);  // refuses a degree above the heads
  for (DecoderLayer& layer : decoder.layers)
    layer.self_attn.core = ulysses_attention(mesh.group(Axis::kUlysses), backend);
  if (plan.activation_checkpoint) decoder.run_layer = checkpointed(decoder.run_layer);
}

int64_t predicted_attention_bytes(const Decoder& decoder, const ParallelPlan& plan, int sequence_rank,
                                  int64_t batch, int64_t length) {
  const int ranks = plan.degrees.ulysses;
  if (ranks == 1) return 0;
  const auto element = static_cast<int64_t>(c10::elementSize(decoder.dtype()));
  const UlyssesTraffic layer = ulysses_traffic(decoder.config, batch, length, element, ranks, sequence_rank);
  const int64_t forwards = plan.activation_checkpoint ? 2 : 1;
  return static_cast<int64_t>(decoder.layers.size()) * (forwards * layer.forward + layer.backward);
}

}  // namespace ithaca
