// A tiny random Llama and random batches, for tests that hold a parallel run against a single one.
#pragma once
#include <memory>
#include <vector>

#include "ithaca/data/batch.h"
#include "ithaca/models/registry.h"

namespace ithaca::parity {

struct HeadCounts {
  int64_t q = 8, kv = 2;
};

struct ModelShape {
  HeadCounts heads;
  int64_t head_dim = 4;
  bool tied = false;
};

// Two layers, hidden 12, vocabulary 23, biases everywhere; the same weights for the same shape.
std::unique_ptr<Decoder> make_model(const ModelShape& shape, at::ScalarType dtype = at::kDouble);

enum class Documents { kOne, kPacked, kPadded };
const char* name_of(Documents documents);

// Random tokens; kPacked: documents of random lengths, empty and one-token ones among them; kPadded: rows of
// different lengths, one of them without any label.
Batch make_batch(int64_t rows, int64_t length, Documents documents, uint64_t seed);

// Rows [begin, begin + count) of a batch, as one replica's micro-batch. May be empty.
Batch rows_of(const Batch& batch, int64_t begin, int64_t count);

}  // namespace ithaca::parity
