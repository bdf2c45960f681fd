// The geometry of the tiled CPU attention: queries in tiles, keys in blocks, and which blocks a tile meets. Arithmetic only.
// Shape letters: B batch, S rows of the sequence, H query heads, K kv heads.
#pragma once
#include <cstdint>
#include <vector>

#include "ithaca/kernels/attention_plan.h"
#include "ithaca/kernels/pattern.h"

namespace ithaca::attention {

// Packed keys lie in panels of kPanel keys; a piece begins a panel of its own and is filled up with zeros to
// a multiple of kKeyAlign, so that no panel holds keys of two documents.
constexpr int64_t kPanel = 64, kKeyAlign = 32;

// Consecutive positions of one document. `packed` is the first key's index in the packed arrays.
struct KeyPiece {
  int64_t offset = 0, start = 0, length = 0, packed = 0;
};
// Keys [begin, begin + length) of a piece; begin is a multiple of kPanel.
struct KeyBlock {
  int64_t piece = 0, begin = 0, length = 0;
};
struct KeyLayout {
  std::vector<KeyPiece> pieces;
  std::vector<KeyBlock> blocks;  // by piece, ascending
  int64_t packed_keys = 0;
};

// Positions [start, start + length) for the query heads [head, head + heads) of one kv head, stacked as rows
// position * heads + head.
struct QueryTile {
  int64_t offset = 0, start = 0, length = 0;
  int64_t head = 0, heads = 0;
  int64_t packed = 0;  // first row in the packed arrays; even

  int64_t rows() const { return length * heads; }
  int64_t padded_rows() const { return (rows() + 1) / 2 * 2; }
};

// What one kv head of one document has to do; nothing joins two units.
struct Unit {
  int64_t batch = 0, kv_head = 0;
  std::size_t keys = 0;  // index of its KeyLayout
  std::vector<QueryTile> tiles;
  int64_t packed_rows = 0;
};

struct Geometry {
  std::vector<KeyLayout> keys;  // one a document; batch rows without documents share theirs
  std::vector<Unit> units;      // kv heads without query heads have none
  bool covers_queries = false;  // every row of q is in a tile
  bool covers_keys = false;     // every row of k is in a piece, every kv head in a unit
};

// At most `rows` rows a tile and `keys` (a multiple of kPanel) keys a block.
Geometry make_geometry(const AttentionPattern& pattern, int64_t batch, const Rows& q_rows, const Rows& k_rows,
                       const HeadRange& heads, int64_t rows, int64_t keys);

// Keys [begin, end) of a piece that a tile meets; begin a multiple of kPanel, end of kKeyAlign. whole: every
// query sees every key, and none of them is filling.
struct KeyRun {
  int64_t begin = 0, end = 0;
  bool whole = false;
};
// The runs of a block that hold an allowed pair, ascending; `runs` is cleared first.
void key_runs(const AttentionPattern& pattern, const QueryTile& tile, const KeyPiece& piece,
              const KeyBlock& block, std::vector<KeyRun>& runs);

}  // namespace ithaca::attention
