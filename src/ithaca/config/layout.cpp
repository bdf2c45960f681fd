#include "ithaca/config/layout.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

namespace ithaca {
namespace {

// kv heads of `mine` that another rank's query heads read as well
int64_t shared_kv_heads(const ModelConfig& model, int64_t ranks, int64_t rank, Share mine) {
  int64_t shared = 0;
  for (int64_t head = mine.begin; head < mine.begin + mine.count; ++head) {
    // query heads of one kv head are consecutive, so only the two neighbours can share it
    const auto reads = [&](int64_t other) {
      if (other < 0 || other >= ranks) return false;
      const Share kv = kv_heads_of(even_split(model.num_attention_heads, ranks, other),
                                   model.num_attention_heads, model.num_key_value_heads);
      return kv.count > 0 && head >= kv.begin && head < kv.begin + kv.count;
    };
    shared += reads(rank - 1) || reads(rank + 1);
  }
  return shared;
}

}  // namespace

Share kv_heads_of(Share query_heads, int64_t q_total, int64_t kv_total) {
  if (query_heads.count == 0) return {};
  const int64_t first = query_heads.begin * kv_total / q_total;
  const int64_t last = (query_heads.begin + query_heads.count - 1) * kv_total / q_total;
  return {first, last - first + 1};
}

Share query_heads_of_chunk(Share query_heads, int64_t q_total, int64_t kv_total, int64_t chunks,
                           int64_t chunk) {
  const Share kv = kv_heads_of(query_heads, q_total, kv_total);
  if (kv.count < chunks) {
    const Share part = even_split(query_heads.count, chunks, chunk);
    return {query_heads.begin + part.begin, part.count};
  }
  Share part = even_split(kv.count, chunks, chunk);
  part.begin += kv.begin;
  // The first query head that reads a kv head from `head` on.
  const auto first_reading = [&](int64_t head) {
    const int64_t first = (head * q_total + kv_total - 1) / kv_total;
    return std::clamp(first, query_heads.begin, query_heads.begin + query_heads.count);
  };
  const int64_t begin = first_reading(part.begin);
  return {begin, first_reading(part.begin + part.count) - begin};
}

LayerTraffic ulysses_traffic(const ModelConfig& model, int64_t batch, int64_t tokens, int64_t element_bytes,
                             int64_t ranks, int64_t rank) {
  const int64_t heads = model.num_attention_heads;
  int64_t other_q = 0, other_kv = 0;
  for (int64_t j = 0; j < ranks; ++j) {
    if (j == rank) continue;
    const Share q = even_split(heads, ranks, j);
    other_q += q.count;
    other_kv += kv_heads_of(q, heads, model.num_key_value_heads).count;
  }
  const Share my_q = even_split(heads, ranks, rank);
  const Share my_kv = kv_heads_of(my_q, heads, model.num_key_value_heads);
  const int64_t my_tokens = even_split(tokens, ranks, rank).count, other_tokens = tokens - my_tokens;
  const int64_t shared = shared_kv_heads(model, ranks, rank, my_kv);
  const int64_t sum_bytes = std::max<int64_t>(element_bytes, 4);
  const int64_t row = batch * model.head_dim;
  LayerTraffic traffic;
  traffic.inbound = row * element_bytes * my_tokens * (other_q + 2 * other_kv);
  traffic.forward = traffic.inbound + row * element_bytes * my_q.count * other_tokens;
  traffic.backward =
      row *
      (element_bytes * my_tokens * other_q +
       (element_bytes * (my_q.count + 2 * (my_kv.count - shared)) + sum_bytes * 2 * shared) * other_tokens);
  return traffic;
}

// ---- Rows ----

namespace {

constexpr double kBalanced = 1.05;  // largest area over the mean that needs no further cut

void append(RowSet& rows, Share run) {
  if (run.count == 0) return;
  if (!rows.empty() && rows.back().begin + rows.back().count == run.begin) {
    rows.back().count += run.count;
  } else {
    rows.push_back(run);
  }
}

// Runs in any order, perhaps overlapping.
RowSet normalized(RowSet runs) {
  std::sort(runs.begin(), runs.end(), [](Share a, Share b) { return a.begin < b.begin; });
  RowSet rows;
  for (Share run : runs) {
    if (!rows.empty()) {
      const int64_t covered = rows.back().begin + rows.back().count - run.begin;
      if (covered >= run.count) continue;
      if (covered > 0) run = {run.begin + covered, run.count - covered};
    }
    append(rows, run);
  }
  return rows;
}

std::vector<Share> documents_of(int64_t length, const std::vector<int64_t>& bounds) {
  if (bounds.empty()) return {{0, length}};
  std::vector<Share> documents;
  for (std::size_t i = 1; i < bounds.size(); ++i)
    if (bounds[i] > bounds[i - 1]) documents.push_back({bounds[i - 1], bounds[i] - bounds[i - 1]});
  return documents;
}

// Calls f(document, run) for the part of each run inside each document, both ascending.
template <class F>
void for_each_piece(const RowSet& rows, const std::vector<Share>& documents, F f) {
  std::size_t d = 0;
  for (const Share run : rows) {
    while (d < documents.size() && documents[d].begin + documents[d].count <= run.begin) ++d;
    for (std::size_t e = d; e < documents.size() && documents[e].begin < run.begin + run.count; ++e) {
      const int64_t begin = std::max(run.begin, documents[e].begin);
      const int64_t end = std::min(run.begin + run.count, documents[e].begin + documents[e].count);
      f(e, Share{begin, end - begin});
    }
  }
}

// One way to deal the rows of a batch row to the ranks of a ring.
class Deal {
 public:
  Deal(int64_t length, int64_t ring, const PairRules& rules)
      : rules_(rules), rows_(ring), area_(ring), free_(ring) {
    for (int64_t r = 0; r < ring; ++r) free_[r] = even_split(length, ring, r).count;
  }

  // In chunks, first to last: to rank 0, 1, ... and, for zigzag, back again. Rows that are left over when the
  // chunks are of one size go to the ranks with most room: their rooms then never differ by more than one.
  void cut(Share document) {
    const int64_t ring = static_cast<int64_t>(rows_.size()), chunks = chunks_of(ring, rules_);
    std::vector<int64_t> sizes(chunks, document.count / chunks);
    for (int64_t c = 0; c < chunks; ++c) free_[rank_of(c)] -= sizes[c];
    for (int64_t left = document.count % chunks; left > 0; --left) {
      int64_t best = -1;
      for (int64_t c = 0; c < chunks; ++c)
        if (sizes[c] == document.count / chunks && (best < 0 || free_[rank_of(c)] > free_[rank_of(best)]))
          best = c;
      sizes[best] += 1;
      free_[rank_of(best)] -= 1;
    }
    int64_t begin = document.begin;
    for (int64_t c = 0; c < chunks; ++c) {
      give(rank_of(c), {begin, sizes[c]}, rules_.pairs({begin, sizes[c]}, document));
      begin += sizes[c];
    }
  }

  // To the rank with the least area so far among those with room; in pieces where none has room.
  void place(Share document, int64_t area) {
    int64_t best = -1;
    for (std::size_t r = 0; r < rows_.size(); ++r)
      if (free_[r] >= document.count && (best < 0 || area_[r] < area_[best])) best = static_cast<int64_t>(r);
    if (best >= 0) {
      free_[best] -= document.count;
      return give(best, document, area);
    }
    fill(document, [&](Share piece) { return rules_.pairs(piece, document); });
  }

  void pad(Share rows) {
    fill(rows, [](Share) { return int64_t{0}; });
  }

  int64_t largest_area() const { return *std::max_element(area_.begin(), area_.end()); }
  bool balanced() const {
    const double mean = static_cast<double>(std::accumulate(area_.begin(), area_.end(), int64_t{0})) /
                        static_cast<double>(area_.size());
    return static_cast<double>(largest_area()) <= kBalanced * mean;
  }
  std::vector<RowSet> rows() const {
    std::vector<RowSet> sorted;
    for (const RowSet& rows : rows_) sorted.push_back(normalized(rows));
    return sorted;
  }

  static int64_t chunks_of(int64_t ring, const PairRules& rules) { return rules.zigzag ? 2 * ring : ring; }

 private:
  std::size_t rank_of(int64_t chunk) const {
    const int64_t ring = static_cast<int64_t>(rows_.size());
    return static_cast<std::size_t>(chunk < ring ? chunk : 2 * ring - 1 - chunk);
  }
  void give(std::size_t rank, Share rows, int64_t area) {
    rows_[rank].push_back(rows);
    area_[rank] += area;
  }
  template <class Area>
  void fill(Share rows, Area area) {
    while (rows.count > 0) {
      const auto most =
          static_cast<std::size_t>(std::max_element(free_.begin(), free_.end()) - free_.begin());
      const Share piece = {rows.begin, std::min(rows.count, free_[most])};
      give(most, piece, area(piece));
      free_[most] -= piece.count;
      rows = {rows.begin + piece.count, rows.count - piece.count};
    }
  }

  const PairRules& rules_;
  std::vector<RowSet> rows_;
  std::vector<int64_t> area_, free_;  // by rank
};

}  // namespace

int64_t count_of(const RowSet& rows) {
  int64_t count = 0;
  for (const Share run : rows) count += run.count;
  return count;
}

RowSet union_of(const RowSet& a, const RowSet& b) {
  RowSet all = a;
  all.insert(all.end(), b.begin(), b.end());
  return normalized(std::move(all));
}

RowSet slice_of(const RowSet& rows, int64_t begin, int64_t count) {
  RowSet slice;
  for (const Share run : rows) {
    const int64_t skipped = std::min(begin, run.count), taken = std::min(count, run.count - skipped);
    append(slice, {run.begin + skipped, taken});
    begin -= skipped;
    count -= taken;
  }
  return slice;
}

PairRules dense_rules(bool causal, int64_t window) {
  // Pairs (i, j) of [0, a) x [0, b) with i - j <= d, from sums of 1 + 2 + ... + x.
  const auto up_to = [](int64_t d, int64_t a, int64_t b) {
    d = std::clamp(d, -b, a);  // beyond, none and all: squares of up to 2^31 fit
    const auto sum = [](int64_t x) { return x > 0 ? x * (x + 1) / 2 : 0; };
    return sum(b + d) - sum(b + d - a) - sum(d) + sum(d - a);
  };
  PairRules rules;
  rules.zigzag = causal && window == 0;
  rules.pairs = [=](Share q, Share k) {
    const int64_t shift = k.begin - q.begin;
    const int64_t high = window > 0 ? up_to(window - 1 + shift, q.count, k.count) : q.count * k.count;
    const int64_t forbidden = causal       ? up_to(-1 + shift, q.count, k.count)
                              : window > 0 ? up_to(-window + shift, q.count, k.count)
                                           : 0;
    return high - forbidden;
  };
  rules.seen = [=](Share q, Share k) {
    const int64_t last = q.begin + q.count - 1;
    const int64_t begin = window > 0 ? std::max(k.begin, q.begin - window + 1) : k.begin;
    int64_t end = k.begin + k.count;
    if (causal) end = std::min(end, last + 1);
    if (!causal && window > 0) end = std::min(end, last + window);
    return q.count > 0 && begin < end ? RowSet{{begin, end - begin}} : RowSet{};
  };
  return rules;
}

std::vector<RowSet> ring_rows(int64_t length, const std::vector<int64_t>& bounds, int64_t ring,
                              const PairRules& rules) {
  if (ring == 1) return {length > 0 ? RowSet{{0, length}} : RowSet{}};
  struct Document {
    Share rows;
    int64_t area;
  };
  std::vector<Document> documents;
  int64_t cuttable = 0;
  for (const Share rows : documents_of(length, bounds)) {
    documents.push_back({rows, rules.pairs(rows, rows)});
    cuttable += rows.count >= Deal::chunks_of(ring, rules);
  }
  std::stable_sort(documents.begin(), documents.end(), [](const Document& a, const Document& b) {
    return std::pair(a.rows.count, a.area) > std::pair(b.rows.count, b.area);
  });

  std::optional<Deal> best;
  for (int64_t cuts = 0;; cuts = std::min(cuttable, std::max<int64_t>(1, 2 * cuts))) {
    Deal deal(length, ring, rules);
    std::vector<Document> whole(documents.begin() + cuts, documents.end());
    for (int64_t i = 0; i < cuts; ++i) deal.cut(documents[i].rows);
    std::stable_sort(whole.begin(), whole.end(),
                     [](const Document& a, const Document& b) { return a.area > b.area; });
    for (const Document& document : whole) deal.place(document.rows, document.area);
    if (!bounds.empty()) deal.pad({bounds.back(), length - bounds.back()});
    if (!best || deal.largest_area() < best->largest_area()) best.emplace(deal);
    if (best->balanced() || cuts == cuttable) break;
  }
  return best->rows();
}

int64_t attention_pairs(const RowSet& q_rows, int64_t length, const std::vector<int64_t>& bounds,
                        const PairRules& rules) {
  const std::vector<Share> documents = documents_of(length, bounds);
  int64_t pairs = 0;
  for_each_piece(q_rows, documents,
                 [&](std::size_t d, Share queries) { pairs += rules.pairs(queries, documents[d]); });
  return pairs;
}

RowSet needed_keys(const RowSet& q_rows, const RowSet& k_rows, int64_t length,
                   const std::vector<int64_t>& bounds, const PairRules& rules) {
  const std::vector<Share> documents = documents_of(length, bounds);
  std::vector<std::pair<std::size_t, Share>> queries;
  for_each_piece(q_rows, documents, [&](std::size_t d, Share run) { queries.emplace_back(d, run); });
  RowSet needed;
  auto first = queries.begin();
  for_each_piece(k_rows, documents, [&](std::size_t d, Share keys) {
    while (first != queries.end() && first->first < d) ++first;
    for (auto q = first; q != queries.end() && q->first == d; ++q) {
      const RowSet seen = rules.seen(q->second, keys);
      needed.insert(needed.end(), seen.begin(), seen.end());
    }
  });
  return normalized(std::move(needed));
}

// ---- Routes ----

namespace {

int64_t rows_in(const std::vector<RowSet>& sets) {
  int64_t rows = 0;
  for (const RowSet& set : sets) rows += count_of(set);
  return rows;
}

void unite(std::vector<RowSet>& into, const std::vector<RowSet>& sets) {
  for (std::size_t b = 0; b < into.size(); ++b) into[b] = union_of(into[b], sets[b]);
}

}  // namespace

RingNeeds ring_needs(const std::vector<std::vector<RowSet>>& rows, int64_t length,
                     const std::vector<std::vector<int64_t>>& bounds, const PairRules& rules) {
  static const std::vector<int64_t> kOneDocument;
  const std::size_t ring = rows.front().size();
  RingNeeds needs(ring, std::vector<std::vector<RowSet>>(ring, std::vector<RowSet>(rows.size())));
  for (std::size_t owner = 0; owner < ring; ++owner)
    for (std::size_t rank = 0; rank < ring; ++rank)
      for (std::size_t b = 0; owner != rank && b < rows.size(); ++b)
        needs[owner][rank][b] = needed_keys(rows[b][rank], rows[b][owner], length,
                                            bounds.empty() ? kOneDocument : bounds[b], rules);
  return needs;
}

RingRoutes ring_routes(const RingNeeds& needs, int inner, int direction) {
  const int ring = static_cast<int>(needs.size());
  const int width = inner > 1 ? inner : ring, groups = ring / width;
  const auto turned = [direction](int at, int steps, int size) {
    return ((at + direction * steps) % size + size) % size;
  };
  RingRoutes routes(ring);
  for (int owner = 0; owner < ring; ++owner) {
    std::vector<Visit>& visits = routes[owner];
    int entry = -1;  // where the block came into the inner ring of the last group
    for (int group = 0; group < groups; ++group) {
      int last = group == 0 ? -1 : -2;  // the visit before in this group; -2: none yet
      for (int j = 0; j < width; ++j) {
        if (group == 0 && j == 0) continue;
        Visit visit;
        visit.rank = turned(owner / width, group, groups) * width + turned(owner % width, j, width);
        visit.step = group * width + j;
        visit.needs = needs[owner][visit.rank];
        if (rows_in(visit.needs) == 0) continue;
        visit.parent = last == -2 ? entry : last;
        if (last == -2) entry = static_cast<int>(visits.size());
        last = static_cast<int>(visits.size());
        visits.push_back(std::move(visit));
      }
    }
    for (std::size_t i = 0; i < visits.size(); ++i) {
      visits[i].carried = visits[i].summed = visits[i].needs;
      if (i > 0) unite(visits[i].summed, visits[i - 1].summed);
    }
    for (std::size_t i = visits.size(); i-- > 0;)
      if (visits[i].parent >= 0) unite(visits[visits[i].parent].carried, visits[i].carried);
  }
  return routes;
}

RouteRows rows_sent(const RingRoutes& routes, int rank) {
  RouteRows sent;
  for (std::size_t owner = 0; owner < routes.size(); ++owner) {
    const std::vector<Visit>& visits = routes[owner];
    for (const Visit& visit : visits) {
      const int sender = visit.parent < 0 ? static_cast<int>(owner) : visits[visit.parent].rank;
      if (rank < 0 || sender == rank) sent.key_values += rows_in(visit.carried);
      if (rank < 0 || visit.rank == rank) sent.sums += rows_in(visit.summed);
    }
  }
  return sent;
}

RouteRows rows_gathered(const RingRoutes& routes, int rank) {
  RouteRows sent;
  for (std::size_t owner = 0; owner < routes.size(); ++owner)
    for (const Visit& visit : routes[owner]) {
      if (rank < 0 || static_cast<int>(owner) == rank) sent.key_values += rows_in(visit.needs);
      if (rank < 0 || visit.rank == rank) sent.sums += rows_in(visit.needs);
    }
  return sent;
}

LayerTraffic sequence_traffic(const ModelConfig& model, const SequenceScheme& scheme, int64_t batch,
                              int64_t tokens, const std::vector<std::vector<int64_t>>& bounds,
                              const PairRules& rules, int64_t element_bytes, int64_t ulysses_index,
                              int64_t ring_index) {
  RingRoutes up, down;
  if (scheme.ring > 1) {
    std::vector<std::vector<RowSet>> rows;
    if (bounds.empty()) rows.push_back(ring_rows(tokens, {}, scheme.ring, rules));
    for (const std::vector<int64_t>& row : bounds) rows.push_back(ring_rows(tokens, row, scheme.ring, rules));
    const RingNeeds needs = ring_needs(rows, tokens, bounds, rules);
    up = ring_routes(needs, static_cast<int>(scheme.inner_ring), 1);
    down = ring_routes(needs, static_cast<int>(scheme.inner_ring), -1);
  }
  return sequence_traffic(model, scheme, batch, tokens, up, down, bounds.empty() ? batch : 1, element_bytes,
                          ulysses_index, ring_index);
}

LayerTraffic sequence_traffic(const ModelConfig& model, const SequenceScheme& scheme, int64_t batch,
                              int64_t tokens, const RingRoutes& up, const RingRoutes& down, int64_t copies,
                              int64_t element_bytes, int64_t ulysses_index, int64_t ring_index) {
  const int64_t sum_bytes = std::max<int64_t>(element_bytes, 4);
  const int64_t my_tokens = even_split(tokens, scheme.ring, ring_index).count;
  LayerTraffic traffic =
      ulysses_traffic(model, batch, my_tokens, element_bytes, scheme.ulysses, ulysses_index);
  if (scheme.ring == 1) return traffic;

  // One row of K and V of all chunks' kv heads.
  const Share queries = even_split(model.num_attention_heads, scheme.ulysses, ulysses_index);
  const int64_t chunks = scheme.ulysses > 1 ? scheme.ulysses_chunks : 1;
  int64_t kv_heads = 0;
  for (int64_t c = 0; c < chunks; ++c)
    kv_heads += kv_heads_of(query_heads_of_chunk(queries, model.num_attention_heads,
                                                 model.num_key_value_heads, chunks, c),
                            model.num_attention_heads, model.num_key_value_heads)
                    .count;
  const int64_t row = 2 * kv_heads * model.head_dim * copies;
  const auto bytes = [&](RouteRows sent, bool backward) {
    return row * (sent.key_values * element_bytes + (backward ? sent.sums * sum_bytes : 0));
  };
  const auto rank = static_cast<int>(ring_index);
  for (const bool backward : {false, true}) {
    int64_t& sum = backward ? traffic.backward : traffic.forward;
    if (scheme.all_gather_kv) {
      sum += bytes(rows_gathered(up, rank), backward);
    } else {
      const bool turn = bytes(rows_sent(down, -1), backward) < bytes(rows_sent(up, -1), backward);
      sum += bytes(rows_sent(turn ? down : up, rank), backward);
    }
  }
  return traffic;
}

}  // namespace ithaca
