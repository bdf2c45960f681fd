#include "ithaca/eval/generate.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// Keys and values of one layer for the rows seen so far. Shape letters: S new rows, K kv heads, D head size.
struct LayerCache {
  at::Tensor k, v;  // [1, capacity, K, D]
};

// A core that appends the new rows to the cache and attends to all rows so far. `backend` is for the prompt; a single
// row after it is a matrix times a vector, which the naive kernel does as well as any.
AttentionCore cached_attention(LayerCache& cache, const int64_t& past, int64_t capacity,
                               AttentionBackend backend) {
  return [&cache, &past, capacity, backend](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                            const HeadRange& heads, const AttentionPattern& pattern) {
    if (!cache.k.defined()) {
      cache.k = at::empty({1, capacity, k.size(2), k.size(3)}, k.options());
      cache.v = at::empty_like(cache.k);
    }
    const int64_t rows = q.size(1);
    cache.k.narrow(1, past, rows).copy_(k);
    cache.v.narrow(1, past, rows).copy_(v);
    const Rows q_rows = {{past, rows}}, k_rows = {{0, past + rows}};
    return attention_block(q, cache.k.narrow(1, 0, past + rows), cache.v.narrow(1, 0, past + rows), q_rows,
                           k_rows, heads, pattern, past == 0 ? backend : AttentionBackend::kNaive)
        .out;
  };
}

// Gives the decoder cores of its own for a while and puts the old ones back, however the while ends.
class CachedCores {
 public:
  CachedCores(Decoder& decoder, const int64_t& past, int64_t capacity, AttentionBackend backend)
      : decoder_(decoder), caches_(decoder.layers.size()) {
    for (DecoderLayer& layer : decoder.layers) {
      cores_.push_back(std::move(layer.self_attn.core));
      layer.self_attn.core = cached_attention(caches_[cores_.size() - 1], past, capacity, backend);
    }
  }
  ~CachedCores() {
    for (std::size_t i = 0; i < cores_.size(); ++i) decoder_.layers[i].self_attn.core = std::move(cores_[i]);
  }
  CachedCores(const CachedCores&) = delete;
  CachedCores& operator=(const CachedCores&) = delete;

 private:
  Decoder& decoder_;
  std::vector<LayerCache> caches_;
  std::vector<AttentionCore> cores_;
};

}  // namespace

std::vector<int32_t> generate_greedy(Decoder& decoder, const std::vector<int32_t>& prompt,
                                     const GenerateOptions& options) {
  if (prompt.empty()) throw UserError("prompt: no token to continue; give --prompt \"some text\"");
  for (const int32_t id : prompt)
    if (id < 0 || id >= decoder.config.vocab_size)
      throw UserError(str("prompt: token id ", id, " is outside the model's vocabulary of ",
                          decoder.config.vocab_size, "; the tokenizer belongs to another model"));
  c10::NoGradGuard no_grad;
  const int64_t capacity = static_cast<int64_t>(prompt.size()) + options.max_new_tokens;
  int64_t past = 0;
  const CachedCores cores(decoder, past, capacity, options.backend);
  std::vector<int32_t> generated;
  std::vector<int64_t> next(prompt.begin(), prompt.end());
  while (static_cast<int64_t>(generated.size()) < options.max_new_tokens) {
    const auto rows = static_cast<int64_t>(next.size());
    DecoderInput input;
    input.input_ids = at::tensor(next, at::kLong).unsqueeze(0);
    input.position_ids = at::arange(past, past + rows, at::kLong).unsqueeze(0);
    input.sequence_length = past + rows;
    input.pattern = decoder.pattern;
    input.pattern.sequence_length = past + rows;
    const at::Tensor last = decoder.hidden(input).narrow(1, rows - 1, 1);
    past += rows;
    const auto id = static_cast<int32_t>(decoder.logits(last).argmax(-1).item<int64_t>());
    generated.push_back(id);
    if (options.on_token) options.on_token(id);
    if (std::count(options.eos_token_ids.begin(), options.eos_token_ids.end(), id)) break;
    next = {id};
  }
  return generated;
}

}  // namespace ithaca
