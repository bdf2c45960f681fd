#include "ithaca/parallel/sequence/ulysses_exchange.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "ithaca/base/error.h"
#include "ithaca/config/layout.h"

namespace ithaca {
namespace {

HeadRange part_of(const HeadRange& range, int chunks, int chunk) {
  const Share q =
      query_heads_of_chunk({range.q_begin, range.q_count}, range.q_total, range.kv_total, chunks, chunk);
  const Share kv = kv_heads_of(q, range.q_total, range.kv_total);
  return {q.begin, q.count, range.q_total, kv.begin, kv.count, range.kv_total};
}

std::vector<int64_t> sizes_with(const at::Tensor& t, int64_t row_dim, int64_t rows, int64_t heads) {
  std::vector<int64_t> sizes = t.sizes().vec();
  sizes[row_dim] = rows;
  sizes[2] = heads;
  return sizes;
}

}  // namespace

int64_t UlyssesSplit::length() const {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0});
}

int64_t UlyssesSplit::row_begin(int rank) const {
  return std::accumulate(rows.begin(), rows.begin() + rank, int64_t{0});
}

bool UlyssesSplit::shared(int rank, int64_t kv) const {
  const int64_t head = heads[rank].kv_begin + kv;
  for (std::size_t j = 0; j < heads.size(); ++j)
    if (static_cast<int>(j) != rank && head >= heads[j].kv_begin &&
        head < heads[j].kv_begin + heads[j].kv_count)
      return true;
  return false;
}

std::vector<HeadRange> split_heads(const HeadRange& heads, int ranks) {
  if (ranks > heads.q_count)
    throw UserError(
        str("ulysses_degree ", ranks, " is above the ", heads.q_count,
            " query heads at hand: a rank would have no head to compute; use a ulysses_degree of at most ",
            heads.q_count));
  std::vector<HeadRange> parts;
  for (int r = 0; r < ranks; ++r) {
    Share q = even_split(heads.q_count, ranks, r);
    q.begin += heads.q_begin;
    const Share kv = kv_heads_of(q, heads.q_total, heads.kv_total);
    parts.push_back({q.begin, q.count, heads.q_total, kv.begin, kv.count, heads.kv_total});
  }
  return parts;
}

std::vector<HeadChunk> head_chunks(const std::vector<HeadRange>& heads, int chunks) {
  ITHACA_CHECK(chunks >= 1, "chunks=", chunks);
  std::vector<HeadChunk> list(chunks);
  for (const HeadRange& range : heads) {
    int64_t arrived = range.kv_begin;
    for (int c = 0; c < chunks; ++c) {
      const HeadRange part = part_of(range, chunks, c);
      const int64_t end = part.q_count > 0 ? part.kv_begin + part.kv_count : arrived;
      list[c].heads.push_back(part);
      list[c].arriving.push_back({arrived, std::max<int64_t>(end - arrived, 0)});
      arrived = std::max(arrived, end);
    }
    int64_t left = range.kv_begin + range.kv_count;
    for (int c = chunks - 1; c >= 0; --c) {
      const HeadRange& part = list[c].heads.back();
      const int64_t begin = part.q_count > 0 ? part.kv_begin : left;
      list[c].leaving.push_back({std::min(begin, left), std::max<int64_t>(left - begin, 0)});
      left = std::min(left, begin);
    }
  }
  return list;
}

at::Tensor UlyssesExchange::empty_full(const at::Tensor& t, int64_t heads) const {
  return at::empty(sizes_with(t, row_dim_, split_.length(), heads), t.options());
}

at::Tensor UlyssesExchange::empty_local(const at::Tensor& t, int64_t heads, at::ScalarType dtype) const {
  return at::empty(sizes_with(t, row_dim_, split_.rows[group_.rank()], heads), t.options().dtype(dtype));
}

void UlyssesExchange::queries_to_heads(Exchange& exchange, const HeadChunk& chunk, const at::Tensor& local,
                                       at::Tensor& full) const {
  for (int j = 0; j < group_.size(); ++j) {
    const HeadRange& theirs = chunk.heads[j];
    exchange.send(j, local.narrow(2, theirs.q_begin - split_.heads[0].q_begin, theirs.q_count));
    exchange.receive(j, rows_of(full, j));
  }
}

void UlyssesExchange::queries_to_rows(Exchange& exchange, const HeadChunk& chunk, const at::Tensor& full,
                                      at::Tensor& local) const {
  for (int j = 0; j < group_.size(); ++j) {
    const HeadRange& theirs = chunk.heads[j];
    exchange.send(j, rows_of(full, j));
    exchange.receive(j, local.narrow(2, theirs.q_begin - split_.heads[0].q_begin, theirs.q_count));
  }
}

void UlyssesExchange::keys_to_heads(Exchange& exchange, const HeadChunk& chunk, const at::Tensor& local,
                                    at::Tensor& full) const {
  const Share mine = chunk.arriving[group_.rank()];
  const int64_t first = split_.heads[group_.rank()].kv_begin;
  for (int j = 0; j < group_.size(); ++j) {
    const Share theirs = chunk.arriving[j];
    exchange.send(j, local.narrow(2, theirs.begin - split_.heads[0].kv_begin, theirs.count));
    exchange.receive(j, rows_of(full, j).narrow(2, mine.begin - first, mine.count));
  }
}

void KeyGradients::to_rows(Exchange& exchange, const HeadChunk& chunk, const at::Tensor& dk,
                           const at::Tensor& dv) {
  const UlyssesSplit& split = exchanges_.split_;
  const int rank = exchanges_.group_.rank();
  const int64_t first = split.heads[rank].kv_begin, local_first = split.heads[0].kv_begin;
  const at::ScalarType element = dk_.scalar_type();
  const auto shared = [&](int owner, int64_t kv) {
    return split.shared(owner, kv - split.heads[owner].kv_begin);
  };
  const auto for_each_head = [](Share heads, auto f) {
    for (int64_t kv = heads.begin; kv < heads.begin + heads.count; ++kv) f(kv);
  };
  for (int j = 0; j < exchanges_.group_.size(); ++j) {
    const auto part = [&](const at::Tensor& t, int64_t kv) {
      return exchanges_.rows_of(t, j).select(2, kv - first);
    };
    for_each_head(chunk.leaving[rank], [&](int64_t kv) {
      const bool wide = shared(rank, kv);
      exchange.send(j, wide ? part(dk, kv) : part(dk, kv).to(element));
      exchange.send(j, wide ? part(dv, kv) : part(dv, kv).to(element));
    });
    for_each_head(chunk.leaving[j], [&](int64_t kv) {
      if (!shared(j, kv)) {
        exchange.receive(j, dk_.select(2, kv - local_first));
        exchange.receive(j, dv_.select(2, kv - local_first));
        return;
      }
      const std::vector<int64_t> sizes = dk_.select(2, 0).sizes().vec();
      partials_.push_back({kv, j, at::empty(sizes, dk.options()), at::empty(sizes, dv.options())});
      exchange.receive(j, partials_.back().dk);
      exchange.receive(j, partials_.back().dv);
    });
  }
}

void KeyGradients::finish() {
  std::sort(partials_.begin(), partials_.end(), [](const Partial& a, const Partial& b) {
    return std::pair(a.kv, a.rank) < std::pair(b.kv, b.rank);
  });
  for (std::size_t i = 0; i < partials_.size();) {
    Partial& sum = partials_[i];
    for (++i; i < partials_.size() && partials_[i].kv == sum.kv; ++i) {
      sum.dk.add_(partials_[i].dk);
      sum.dv.add_(partials_[i].dv);
    }
    const int64_t local = sum.kv - exchanges_.split_.heads[0].kv_begin;
    dk_.select(2, local).copy_(sum.dk);
    dv_.select(2, local).copy_(sum.dv);
  }
}

}  // namespace ithaca
