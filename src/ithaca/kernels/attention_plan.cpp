#include "ithaca/kernels/attention_plan.h"

#include <algorithm>
#include <limits>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// The parts of `rows` inside positions [begin, end).
std::vector<Piece> pieces_of(const Rows& rows, int64_t begin, int64_t end) {
  std::vector<Piece> pieces;
  int64_t offset = 0;
  for (const RowRun& run : rows) {
    const int64_t first = std::max(run.start, begin), last = std::min(run.start + run.length, end);
    if (first < last) {
      const Piece piece{offset + first - run.start, first, last - first};
      Piece* before = pieces.empty() ? nullptr : &pieces.back();
      if (before && before->offset + before->length == piece.offset &&
          before->start + before->length == piece.start) {
        before->length += piece.length;
      } else {
        pieces.push_back(piece);
      }
    }
    offset += run.length;
  }
  return pieces;
}

std::string describe(const Piece& piece) {
  return str("[", piece.start, ", ", piece.start + piece.length, ")");
}

}  // namespace

std::vector<DocumentRows> document_rows(const Rows& q_rows, const Rows& k_rows,
                                        const std::vector<int64_t>& bounds) {
  const std::vector<int64_t> whole{0, std::numeric_limits<int64_t>::max()};
  const std::vector<int64_t>& edges = bounds.empty() ? whole : bounds;
  std::vector<DocumentRows> documents;
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    DocumentRows rows{pieces_of(q_rows, edges[i], edges[i + 1]), pieces_of(k_rows, edges[i], edges[i + 1])};
    if (!rows.q.empty() && !rows.k.empty()) documents.push_back(std::move(rows));
  }
  return documents;
}

std::vector<DenseTask> dense_tasks(const std::vector<DocumentRows>& documents, bool causal,
                                   const char* backend) {
  std::vector<DenseTask> tasks;
  for (const DocumentRows& document : documents) {
    for (const Piece& q : document.q) {
      bool met = false;
      for (const Piece& k : document.k) {
        if (causal && k.start >= q.start + q.length) continue;
        const bool square = q.start == k.start && q.length == k.length;
        if (causal && !square && k.start + k.length > q.start + 1)
          throw UserError(ithaca::str("attention backend \"", backend, "\": query positions ", describe(q),
                                      " and key positions ", describe(k),
                                      " of one document overlap without being equal; it does only equal runs "
                                      "(causal) or keys wholly before the "
                                      "queries. Use attention: naive, or rows cut at the same positions"));
        if (met)
          throw UserError(ithaca::str("attention backend \"", backend, "\": query positions ", describe(q),
                                      " meet more than one run of keys in one call (the second is ",
                                      describe(k),
                                      "), which would need partial results merged. Use attention: naive, or "
                                      "call once a run of keys"));
        met = true;
        tasks.push_back({q.offset, q.length, k.offset, k.length, causal && square && q.length > 1});
      }
    }
  }
  return tasks;
}

std::vector<HeadGroup> head_groups(const HeadRange& heads) {
  std::vector<HeadGroup> groups;
  for (int64_t h = 0; h < heads.q_count;) {
    const int64_t kv = heads.kv_of(h);
    int64_t end = h + 1;
    while (end < heads.q_count && heads.kv_of(end) == kv) ++end;
    HeadGroup* last = groups.empty() ? nullptr : &groups.back();
    if (last && last->q_count / last->kv_count == end - h && last->kv_begin + last->kv_count == kv) {
      last->q_count += end - h;
      ++last->kv_count;
    } else {
      groups.push_back({h, end - h, kv, 1});
    }
    h = end;
  }
  return groups;
}

}  // namespace ithaca
