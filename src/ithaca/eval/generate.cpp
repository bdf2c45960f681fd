#include "ithaca/eval/generate.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// Keys and values of one layer for the rows seen so far. Shape letters: S new rows, K kv heads, D head size.
struct LayerCache {
  at::Tensor k, v;  // [1, rows so far and some to come, K, D]
};

// Makes room for `needed` rows, of which the first `past` are kept. Growing by `step` rows copies each row once in
// `step` tokens, while attention reads it for every token.
void reserve(at::Tensor& cache, int64_t needed, int64_t past, int64_t step, const at::Tensor& like) {
  if (cache.defined() && cache.size(1) >= needed) return;
  at::Tensor larger = at::empty({1, needed + step - 1, like.size(2), like.size(3)}, like.options());
  if (past > 0) larger.narrow(1, 0, past).copy_(cache.narrow(1, 0, past));
  cache = larger;
}

// A core that appends the new rows to the cache and attends to all rows so far. `backend` is for the prompt; a single
// row after it is a matrix times a vector, which the naive kernel does as well as any.
AttentionCore cached_attention(LayerCache& cache, const int64_t& past, int64_t step,
                               AttentionBackend backend) {
  return [&cache, &past, step, backend](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const HeadRange& heads, const AttentionPattern& pattern) {
    const int64_t rows = q.size(1);
    reserve(cache.k, past + rows, past, step, k);
    reserve(cache.v, past + rows, past, step, v);
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
  CachedCores(Decoder& decoder, const int64_t& past, int64_t step, AttentionBackend backend)
      : decoder_(decoder), caches_(decoder.layers.size()) {
    for (DecoderLayer& layer : decoder.layers) {
      cores_.push_back(std::move(layer.self_attn.core));
      layer.self_attn.core = cached_attention(caches_[cores_.size() - 1], past, step, backend);
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

// logits [1, 1, V] of the token after `ids`.
int32_t likeliest(const at::Tensor& logits, const std::vector<int32_t>& ids, const TokenRules& rules) {
  if (rules.empty()) return static_cast<int32_t>(logits.argmax(-1).item<int64_t>());
  // a copy of its own, which the rules may change
  const at::Tensor scores = at::empty({logits.size(2)}, at::kFloat).copy_(logits.flatten());
  rules.apply(ids, {scores.mutable_data_ptr<float>(), static_cast<std::size_t>(scores.numel())});
  return static_cast<int32_t>(scores.argmax(-1).item<int64_t>());
}

}  // namespace

std::vector<int32_t> generate_greedy(Decoder& decoder, const std::vector<int32_t>& prompt,
                                     const GenerateOptions& options) {
  if (prompt.empty()) throw UserError("prompt: no token to continue; give --prompt \"some text\"");
  for (const int32_t id : prompt)
    if (id < 0 || id >= decoder.config.vocab_size)
      throw UserError(str("prompt: token id ", id, " is outside the model's vocabulary of ",
                          decoder.config.vocab_size, "; the tokenizer belongs to another model"));
  c10::NoGradGuard no_grad;
  ITHACA_CHECK(options.cache_step > 0, options.cache_step);
  int64_t past = 0;
  const CachedCores cores(decoder, past, options.cache_step, options.backend);
  std::vector<int32_t> generated, ids = prompt;
  std::vector<int64_t> next(prompt.begin(), prompt.end());
  while (static_cast<int64_t>(generated.size()) < options.max_new_tokens) {
    const auto rows = static_cast<int64_t>(next.size());
    DecoderInput input;
    input.input_ids = at::tensor(next, at::kLong).unsqueeze(0);
    input.position_ids = at::arange(past, past + rows, at::kLong).unsqueeze(0);
    input.sequence_length = past + rows;
    AttentionPattern pattern = decoder.pattern;
    pattern.sequence_length = past + rows;
    input.pattern = pattern;
    const at::Tensor last = decoder.hidden(input).narrow(1, rows - 1, 1);
    past += rows;
    const int32_t id = likeliest(decoder.logits(last), ids, options.rules);
    generated.push_back(id);
    ids.push_back(id);
    if (options.on_token) options.on_token(id);
    if (std::count(options.eos_token_ids.begin(), options.eos_token_ids.end(), id)) break;
    next = {id};
  }
  return generated;
}

}  // namespace ithaca
