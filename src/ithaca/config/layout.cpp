#include "ithaca/config/layout.h"

#include <algorithm>

namespace ithaca {
namespace {

// kv heads of `mine` that another rank's query heads read as well
int64_t shared_kv_heads(const ModelConfig& model, int64_t ranks, int64_t rank, Share mine) {
  int64_t shared = 0;
  for (int64_t head = mine.begin; head < mine.begin + mine.count; ++head) {
    // query heads of one kv head are consecutive, so only the two neighbours can share it
    const auto reads = [&](int64_t other) {
      if (other < 0 || other >= ranks) return false;
      const Share kv = kv_heads_of(even_split(model.num_attention_heads, ranks, other),
                                   model.num_attention_heads, model.num_key_value_heads);
      return kv.count > 0 && head >= kv.begin && head < kv.begin + kv.count;
    };
    shared += reads(rank - 1) || reads(rank + 1);
  }
  return shared;
}

}  // namespace

Share kv_heads_of(Share query_heads, int64_t q_total, int64_t kv_total) {
  if (query_heads.count == 0) return {};
  const int64_t first = query_heads.begin * kv_total / q_total;
  const int64_t last = (query_heads.begin + query_heads.count - 1) * kv_total / q_total;
  return {first, last - first + 1};
}

UlyssesTraffic ulysses_traffic(const ModelConfig& model, int64_t batch, int64_t tokens, int64_t element_bytes,
                               int64_t ranks, int64_t rank) {
  const int64_t heads = model.num_attention_heads;
  int64_t other_q = 0, other_kv = 0;
  for (int64_t j = 0; j < ranks; ++j) {
    if (j == rank) continue;
    const Share q = even_split(heads, ranks, j);
    other_q += q.count;
    other_kv += kv_heads_of(q, heads, model.num_key_value_heads).count;
  }
  const Share my_q = even_split(heads, ranks, rank);
  const Share my_kv = kv_heads_of(my_q, heads, model.num_key_value_heads);
  const int64_t my_tokens = even_split(tokens, ranks, rank).count, other_tokens = tokens - my_tokens;
  const int64_t shared = shared_kv_heads(model, ranks, rank, my_kv);
  const int64_t sum_bytes = std::max<int64_t>(element_bytes, 4);
  const int64_t row = batch * model.head_dim;
  UlyssesTraffic traffic;
  traffic.forward = row * element_bytes * (my_tokens * (other_q + 2 * other_kv) + my_q.count * other_tokens);
  traffic.backward =
      row *
      (element_bytes * my_tokens * other_q +
       (element_bytes * (my_q.count + 2 * (my_kv.count - shared)) + sum_bytes * 2 * shared) * other_tokens);
  return traffic;
}

}  // namespace ithaca
