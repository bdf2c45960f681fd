// From rows, documents and heads to the dense pieces that a kernel without documents can do. Arithmetic only.
#pragma once
#include <cstdint>
#include <vector>

#include "ithaca/kernels/pattern.h"

namespace ithaca {

// Rows [offset, offset + length) of a tensor hold the global positions [start, start + length).
struct Piece {
  int64_t offset = 0, start = 0, length = 0;
  bool operator==(const Piece&) const = default;
};

// The rows at hand of one document, in tensor order; runs that go on in both tensor and position are one
// piece.
struct DocumentRows {
  std::vector<Piece> q, k;
};

// One entry a document with rows on both sides; rows outside all documents (padding) appear nowhere. `bounds`
// empty: one document.
std::vector<DocumentRows> document_rows(const Rows& q_rows, const Rows& k_rows,
                                        const std::vector<int64_t>& bounds);

// One call of a dense kernel: all of q against all of k, or the causal triangle with its corner at the first
// row of both.
struct DenseTask {
  int64_t q_offset = 0, q_length = 0, k_offset = 0, k_length = 0;
  bool causal = false;
  bool operator==(const DenseTask&) const = default;
};

// Each q piece may meet one k piece: the same positions (a causal square), or k wholly before q, or anything
// when not causal; k wholly after q is nothing. Whatever else would need partial results merged: UserError
// that names it and `backend`.
std::vector<DenseTask> dense_tasks(const std::vector<DocumentRows>& documents, bool causal,
                                   const char* backend);

// Local query heads [q_begin, q_begin + q_count) over kv heads [kv_begin, kv_begin + kv_count), equally many
// each. Every kv head is in at most one group, because the query heads of one kv head are neighbours.
struct HeadGroup {
  int64_t q_begin = 0, q_count = 0, kv_begin = 0, kv_count = 0;
  bool operator==(const HeadGroup&) const = default;
};
std::vector<HeadGroup> head_groups(const HeadRange& heads);

}  // namespace ithaca
