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

// Which keys the queries of one call see: query i of Q sees key j of N if
// i + N - Q - left <= j <= i + N - Q + right; -1: no bound on that side (FlashAttention's window_size).
struct Band {
  int64_t left = -1, right = -1;
  bool operator==(const Band&) const = default;
};

// One call of a dense kernel: rows [q_offset, q_offset + q_length) against [k_offset, k_offset + k_length).
struct DenseTask {
  int64_t q_offset = 0, q_length = 0, k_offset = 0, k_length = 0;
  Band band = {};
  bool operator==(const DenseTask&) const = default;
};

// The calls for documents under a causal pattern or not and a window (0: none). Each query of a task sees at least
// one of its keys. Without `bands` there is no window, and a task sees all of its keys or is a causal square: runs
// that overlap otherwise become up to three tasks.
std::vector<DenseTask> dense_tasks(const std::vector<DocumentRows>& documents, bool causal, int64_t window,
                                   bool bands);

// Is a query in more than one task, so that partial results are to be merged?
bool queries_meet_twice(const std::vector<DenseTask>& tasks);

// Rows of documents put end to end: document i has queries [q[i], q[i + 1]) and keys [k[i], k[i + 1]).
struct PackedBounds {
  std::vector<int> q = {0}, k = {0};
  int64_t longest_q = 0, longest_k = 0;

  void add(int64_t q_length, int64_t k_length);
};

// Local query heads [q_begin, q_begin + q_count) over kv heads [kv_begin, kv_begin + kv_count), equally many
// each. Every kv head is in at most one group, because the query heads of one kv head are neighbours.
struct HeadGroup {
  int64_t q_begin = 0, q_count = 0, kv_begin = 0, kv_count = 0;
  bool operator==(const HeadGroup&) const = default;
};
std::vector<HeadGroup> head_groups(const HeadRange& heads);

}  // namespace ithaca
