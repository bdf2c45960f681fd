// The attention pattern that settings and config.json say together.
#pragma once
#include <cstdint>
#include <filesystem>
#include <vector>

#include "ithaca/config/settings.h"

namespace ithaca {

// Query i sees key j only if i - j < window; 0: no window.
int64_t sliding_window_of(const Settings& settings, const ModelConfig& model);

// ALiBi in the place of rotary embedding.
bool uses_alibi(const Settings& settings, const ModelConfig& model);

// Which query block sees which key block, as sparse_attention.mask_file says.
struct BlockMask {
  int64_t blocks = 0;            // a side
  std::vector<uint8_t> allowed;  // [blocks, blocks] row-major, query block first; 0 or 1
};

// A text file: one line a query block, one 0 or 1 a key block; spaces, commas, tabs and empty lines are skipped, and
// so is what follows a #. UserError names the line: other characters, rows of another length than there are rows,
// more than 4096 blocks.
BlockMask read_block_mask(const std::filesystem::path& file);

}  // namespace ithaca
