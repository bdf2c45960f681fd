// Which rows of a sequence lie on which rank, and a batch cut accordingly. Ulysses: contiguous split, the
// first T mod P ranks hold one row more, no padding.
#pragma once
#include <cstdint>
#include <vector>

#include "ithaca/data/batch.h"
#include "ithaca/models/decoder.h"

namespace ithaca {

// Rows by rank: sums to `length`.
std::vector<int64_t> contiguous_split(int64_t length, int ranks);

// One rank's part of a batch, as the decoder takes it. Labels were shifted before the cut, positions and
// document bounds stay global.
struct SequenceShard {
  DecoderInput input;
  at::Tensor labels;  // [B, S]
};
SequenceShard shard_batch(const Batch& batch, int rank, int ranks);

}  // namespace ithaca
