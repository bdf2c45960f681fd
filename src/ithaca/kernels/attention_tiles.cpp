#include "ithaca/kernels/attention_tiles.h"

#include <algorithm>

namespace ithaca::attention {
namespace {

int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

int64_t size_of(const Rows& rows) {
  int64_t n = 0;
  for (const RowRun& run : rows) n += run.length;
  return n;
}

KeyLayout layout_of(const std::vector<Piece>& pieces, int64_t keys) {
  KeyLayout layout;
  for (const Piece& piece : pieces) {
    const auto index = static_cast<int64_t>(layout.pieces.size());
    layout.pieces.push_back({piece.offset, piece.start, piece.length, layout.packed_keys});
    for (int64_t begin = 0; begin < piece.length; begin += keys)
      layout.blocks.push_back({index, begin, std::min(keys, piece.length - begin)});
    layout.packed_keys += round_up(piece.length, kKeyAlign);
  }
  return layout;
}

void add_tiles(Unit& unit, const std::vector<Piece>& pieces, int64_t head, int64_t heads, int64_t rows) {
  for (int64_t h = 0; h < heads; h += rows) {
    const int64_t stacked = std::min(heads - h, rows), positions = std::max<int64_t>(1, rows / stacked);
    for (const Piece& piece : pieces)
      for (int64_t i = 0; i < piece.length; i += positions) {
        unit.tiles.push_back({piece.offset + i, piece.start + i, std::min(positions, piece.length - i),
                              head + h, stacked, unit.packed_rows});
        unit.packed_rows += unit.tiles.back().padded_rows();
      }
  }
}

// Units of one document in one batch row; the number of kv heads that have one.
int64_t add_units(Geometry& geometry, const DocumentRows& document, int64_t batch, std::size_t layout,
                  const HeadRange& heads, int64_t rows) {
  int64_t used = 0;
  for (int64_t h = 0; h < heads.q_count; ++used) {
    int64_t end = h + 1;
    while (end < heads.q_count && heads.kv_of(end) == heads.kv_of(h)) ++end;
    Unit unit{.batch = batch, .kv_head = heads.kv_of(h), .keys = layout, .tiles = {}};
    add_tiles(unit, document.q, h, end - h, rows);
    geometry.units.push_back(std::move(unit));
    h = end;
  }
  return used;
}

}  // namespace

Geometry make_geometry(const AttentionPattern& pattern, int64_t batch, const Rows& q_rows, const Rows& k_rows,
                       const HeadRange& heads, int64_t rows, int64_t keys) {
  Geometry geometry;
  geometry.covers_queries = geometry.covers_keys = true;
  const int64_t q_size = size_of(q_rows), k_size = size_of(k_rows);
  std::vector<DocumentRows> documents;
  std::size_t first_layout = 0;
  for (int64_t b = 0; b < batch; ++b) {
    if (b == 0 || !pattern.documents.empty()) {
      documents = document_rows(
          q_rows, k_rows,
          pattern.documents.empty() ? std::vector<int64_t>{} : pattern.documents[static_cast<size_t>(b)]);
      first_layout = geometry.keys.size();
      for (const DocumentRows& document : documents) geometry.keys.push_back(layout_of(document.k, keys));
    }
    int64_t queries = 0, keys_met = 0;
    for (std::size_t d = 0; d < documents.size(); ++d) {
      const int64_t used = add_units(geometry, documents[d], b, first_layout + d, heads, rows);
      geometry.covers_keys = geometry.covers_keys && used == heads.kv_count;
      for (const Piece& piece : documents[d].q) queries += piece.length;
      for (const Piece& piece : documents[d].k) keys_met += piece.length;
    }
    geometry.covers_queries = geometry.covers_queries && queries == q_size;
    geometry.covers_keys = geometry.covers_keys && keys_met == k_size;
  }
  return geometry;
}

void key_runs(const AttentionPattern& pattern, const QueryTile& tile, const KeyPiece& piece,
              const KeyBlock& block, std::vector<KeyRun>& runs) {
  runs.clear();
  const int64_t q_begin = tile.start, q_end = tile.start + tile.length, k_end = block.begin + block.length;
  int64_t first = block.begin, last = k_end;
  // What causality and the window leave, in keys of the piece.
  if (pattern.causal) last = std::min(last, q_end - piece.start);
  if (pattern.window > 0) {
    first = std::max(first, q_begin - pattern.window + 1 - piece.start);
    if (!pattern.causal) last = std::min(last, q_end - 1 + pattern.window - piece.start);
  }
  if (first >= last) return;
  first = first / kPanel * kPanel;
  const auto seen = [&](int64_t begin, int64_t end) {
    return reach(pattern, q_begin, q_end, piece.start + begin, piece.start + end);
  };
  const int64_t step = pattern.sparse.enabled() ? kPanel : last - first;
  for (int64_t begin = first; begin < last; begin += step) {
    const int64_t end = std::min(last, begin + step), padded = round_up(end, kKeyAlign);
    const Reach part = seen(begin, end);
    if (part == Reach::kNone) continue;
    // The filled-up end may hold real keys that the pattern forbids.
    const bool whole = part == Reach::kAll && (padded == end || seen(begin, padded) == Reach::kAll) &&
                       padded <= piece.length;
    if (!runs.empty() && runs.back().end == begin) {
      runs.back().end = padded;
      runs.back().whole = runs.back().whole && whole;
    } else {
      runs.push_back({begin, padded, whole});
    }
  }
}

}  // namespace ithaca::attention
