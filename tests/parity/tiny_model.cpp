#include "tests/parity/tiny_model.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <random>

namespace ithaca::parity {
namespace {

constexpr int64_t kVocabulary = 23;

// Counts what a replica's batch must carry, from its labels and bounds.
void count(Batch& batch) {
  batch.num_labels = batch.labels.ne(kNoLabel).sum().item<int64_t>();
  batch.num_tokens = 0;
  for (const std::vector<int64_t>& bounds : batch.documents) batch.num_tokens += bounds.back();
}

}  // namespace

std::unique_ptr<Decoder> make_model(const ModelShape& shape, at::ScalarType dtype) {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.model_type = "llama";
  config.vocab_size = kVocabulary;
  config.hidden_size = 12;
  config.intermediate_size = 20;
  config.num_hidden_layers = 2;
  config.num_attention_heads = shape.heads.q;
  config.num_key_value_heads = shape.heads.kv;
  config.head_dim = shape.head_dim;
  config.max_position_embeddings = 64;
  config.initializer_range = 0.3;
  config.tie_word_embeddings = shape.tied;
  config.attention_bias = config.mlp_bias = true;
  std::unique_ptr<Decoder> decoder = build_decoder(config, dtype);
  initialize_weights(*decoder, 7);
  for (Parameter* p : decoder->parameters())  // biases start at zero: give them something to be wrong about
    if (p->name.ends_with("bias")) p->value.fill_(0.1);
  return decoder;
}

const char* name_of(Documents documents) {
  return documents == Documents::kOne ? "one" : documents == Documents::kPacked ? "packed" : "padded";
}

Batch make_batch(int64_t rows, int64_t length, Documents documents, uint64_t seed) {
  std::mt19937_64 random(seed);
  Batch batch;
  batch.input_ids = at::zeros({rows, length}, at::kLong);
  batch.labels = at::full({rows, length}, kNoLabel, at::kLong);
  batch.position_ids = at::zeros({rows, length}, at::kLong);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int64_t> bounds = {0};
    const int64_t end = documents == Documents::kPadded ? (row == 0 ? 1 : length - row % length) : length;
    if (documents == Documents::kPacked) {
      bounds.push_back(0);  // an empty document
      while (bounds.back() < end)
        bounds.push_back(std::min<int64_t>(end, bounds.back() + 1 + static_cast<int64_t>(random() % 6)));
    } else {
      bounds.push_back(end);
    }
    auto* ids = batch.input_ids.data_ptr<int64_t>() + row * length;
    auto* labels = batch.labels.data_ptr<int64_t>() + row * length;
    auto* positions = batch.position_ids.data_ptr<int64_t>() + row * length;
    for (int64_t t = 0; t < end; ++t) ids[t] = static_cast<int64_t>(random() % kVocabulary);
    for (std::size_t d = 1; d < bounds.size(); ++d)
      for (int64_t t = bounds[d - 1]; t < bounds[d]; ++t) {
        positions[t] = t - bounds[d - 1];
        if (t + 1 < bounds[d]) labels[t] = ids[t + 1];
      }
    batch.documents.push_back(bounds);
  }
  count(batch);
  return batch;
}

Batch rows_of(const Batch& batch, int64_t begin, int64_t count_rows) {
  Batch part;
  part.input_ids = batch.input_ids.narrow(0, begin, count_rows).clone();
  part.labels = batch.labels.narrow(0, begin, count_rows).clone();
  part.position_ids = batch.position_ids.narrow(0, begin, count_rows).clone();
  part.documents.assign(batch.documents.begin() + begin, batch.documents.begin() + begin + count_rows);
  count(part);
  return part;
}

}  // namespace ithaca::parity
