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

// One run of queries against one of keys, cut to the rows that see or are seen.
void add_tasks(Piece q, Piece k, bool causal, int64_t window, bool bands, std::vector<DenseTask>& tasks) {
  constexpr int64_t kFar = std::numeric_limits<int64_t>::max() / 4;  // beyond all positions, yet safe to add
  const int64_t behind = window > 0 ? window - 1 : kFar, ahead = causal ? 0 : behind;
  const auto cut = [](Piece& piece, int64_t first, int64_t last) {
    const int64_t begin = std::max(piece.start, first), end = std::min(piece.start + piece.length, last + 1);
    piece = {piece.offset + begin - piece.start, begin, end - begin};
    return piece.length > 0;
  };
  if (!cut(q, k.start - ahead, k.start + k.length - 1 + behind)) return;
  if (!cut(k, q.start - behind, q.start + q.length - 1 + ahead)) return;
  const int64_t q_end = q.start + q.length, k_end = k.start + k.length;
  const auto add = [&](int64_t q_begin, int64_t q_last, int64_t k_begin, int64_t k_last, Band band) {
    if (q_begin < q_last && k_begin < k_last)
      tasks.push_back({q.offset + q_begin - q.start, q_last - q_begin, k.offset + k_begin - k.start,
                       k_last - k_begin, band});
  };
  if (bands) {
    add(q.start, q_end, k.start, k_end,
        {behind == kFar ? -1 : behind - q_end + k_end, ahead == kFar ? -1 : ahead + q_end - k_end});
  } else if (!causal || k_end <= q.start + 1) {
    add(q.start, q_end, k.start, k_end, {});
  } else {
    add(q.start, q_end, k.start, q.start, {});
    add(q.start, k_end, q.start, k_end, {-1, 0});
    add(k_end, q_end, q.start, k_end, {});
  }
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

std::vector<DenseTask> dense_tasks(const std::vector<DocumentRows>& documents, bool causal, int64_t window,
                                   bool bands) {
  ITHACA_CHECK(bands || window == 0, "a window needs bands");
  std::vector<DenseTask> tasks;
  for (const DocumentRows& document : documents)
    for (const Piece& q : document.q)
      for (const Piece& k : document.k) add_tasks(q, k, causal, window, bands, tasks);
  return tasks;
}

bool queries_meet_twice(const std::vector<DenseTask>& tasks) {
  std::vector<std::pair<int64_t, int64_t>> runs;
  for (const DenseTask& task : tasks) runs.emplace_back(task.q_offset, task.q_offset + task.q_length);
  std::sort(runs.begin(), runs.end());
  for (std::size_t i = 1; i < runs.size(); ++i)
    if (runs[i].first < runs[i - 1].second) return true;
  return false;
}

void PackedBounds::add(int64_t q_length, int64_t k_length) {
  q.push_back(static_cast<int>(q.back() + q_length));
  k.push_back(static_cast<int>(k.back() + k_length));
  longest_q = std::max(longest_q, q_length);
  longest_k = std::max(longest_k, k_length);
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
