// What each rank of a sequence-parallel group holds and sends, as arithmetic: for `ithaca check`, and for
// tests to compare with. Shape letters: B batch, S tokens, H query heads, K kv heads, D head size.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "ithaca/base/split.h"
#include "ithaca/config/model_config.h"

namespace ithaca {

// The kv heads that these query heads read: query head h reads floor(h * K / H).
Share kv_heads_of(Share query_heads, int64_t q_total, int64_t kv_total);

// Bytes that one rank sends in one layer.
struct LayerTraffic {
  int64_t forward = 0, backward = 0;
  int64_t inbound = 0;  // part of forward: Ulysses' exchange of q, k and v before attention
};

// Bytes that `rank` of `ranks` sends. `element_bytes` is the activations' type; dK and dV of a kv head that
// several ranks use travel in the accumulation type (float32; float64 for 8-byte elements).
LayerTraffic ulysses_traffic(const ModelConfig& model, int64_t batch, int64_t tokens, int64_t element_bytes,
                             int64_t ranks, int64_t rank);

// Chunk `chunk` of a rank's query heads (ulysses_chunks): cut between kv heads where the rank has at least as
// many of them as chunks, else between query heads.
Share query_heads_of_chunk(Share query_heads, int64_t q_total, int64_t kv_total, int64_t chunks,
                           int64_t chunk);

// ---- Rows of a sequence on a ring (ring attention, hybrid, all-gathered K and V) ----

// Rows as runs of consecutive global positions, ascending and apart.
using RowSet = std::vector<Share>;
int64_t count_of(const RowSet& rows);
// The rows of both sets.
RowSet union_of(const RowSet& a, const RowSet& b);
// Rows [begin, begin + count) of the set, counted along it.
RowSet slice_of(const RowSet& rows, int64_t begin, int64_t count);

// The pattern, as far as rows are concerned: positions of one document, query and key rectangle given.
struct PairRules {
  std::function<int64_t(Share q, Share k)> pairs;  // how many pairs attend
  std::function<RowSet(Share q, Share k)> seen;    // the keys that some query sees
  bool zigzag = false;  // later rows of a document have more work than earlier ones: causal without a window
};
PairRules dense_rules(bool causal, int64_t window);

// Rows by ring rank of one batch row: `length` rows, the first length mod ring ranks hold one more. `bounds`
// as cu_seqlens (empty: one document); rows behind the last bound are padding and fill what is left. As few
// documents are cut as keep the areas within 5 % of their mean (else all are that can be): a cut document lies
// zigzag in 2 * ring chunks (in ring chunks where `zigzag` is false), the others whole on one rank, those of
// the largest area first, each on the rank with the least area so far that has room.
std::vector<RowSet> ring_rows(int64_t length, const std::vector<int64_t>& bounds, int64_t ring,
                              const PairRules& rules);
// Pairs that these query rows attend to.
int64_t attention_pairs(const RowSet& q_rows, int64_t length, const std::vector<int64_t>& bounds,
                        const PairRules& rules);
// The rows of k_rows that a query of q_rows may attend to.
RowSet needed_keys(const RowSet& q_rows, const RowSet& k_rows, int64_t length,
                   const std::vector<int64_t>& bounds, const PairRules& rules);

// The way of one ring rank's K and V to the ranks that need a row of it, in the order in which these compute.
// Ranks that need nothing are left out. Sets are by batch row.
struct Visit {
  int rank = 0;
  int step = 0;                 // at which it computes; the owner itself at 0
  int parent = -1;              // who sends K and V here: an index of the list, -1: the owner
  std::vector<RowSet> needs;    // what the rank attends to
  std::vector<RowSet> carried;  // K and V rows that arrive: what it and those behind it need
  std::vector<RowSet> summed;   // dK and dV rows that leave: what it and those before it need
};
// By owner. dK and dV go from each visit to the next of the list, from the last one home.
using RingRoutes = std::vector<std::vector<Visit>>;

// needs[owner][rank]: by batch row the rows of `owner` that `rank` attends to; nothing of its own. rows: by batch row and
// ring rank; bounds: by batch row, or empty.
using RingNeeds = std::vector<std::vector<std::vector<RowSet>>>;
RingNeeds ring_needs(const std::vector<std::vector<RowSet>>& rows, int64_t length,
                     const std::vector<std::vector<int64_t>>& bounds, const PairRules& rules);
// Blocks go from rank r to r + direction. inner: ranks of the inner ring of a double ring (cp_window_size), 1:
// one ring. In a double ring a block goes round the inner ring and, from where it entered it, at the same time
// to the next inner ring.
RingRoutes ring_routes(const RingNeeds& needs, int inner, int direction);
// What `rank` (-1: all) sends, in rows: K and V rows (each counted once for the pair), and dK and dV rows.
struct RouteRows {
  int64_t key_values = 0, sums = 0;
};
RouteRows rows_sent(const RingRoutes& routes, int rank);
// The same when every rank gets what it needs straight from its owner, and sends back the gradient of that.
RouteRows rows_gathered(const RingRoutes& routes, int rank);

// ---- Bytes ----

// A grid of sequence parallelism and the method on its ring axis.
struct SequenceScheme {
  int64_t ulysses = 1, ring = 1;
  int64_t inner_ring = 1;  // cp_window_size
  int64_t ulysses_chunks = 1;
  bool all_gather_kv = false;  // instead of a ring
};
// What the rank at (ulysses_index, ring_index) sends for `batch` rows of `tokens`: Ulysses within its group,
// over the rows of its ring rank, and the ring's (or the gathered) K and V for the kv heads of each of its
// chunks, over the routes above. A kv head that two chunks share travels the ring with both; with ring 1
// chunks change nothing. bounds: by batch row, or empty. Backward takes the direction that sends less.
LayerTraffic sequence_traffic(const ModelConfig& model, const SequenceScheme& scheme, int64_t batch,
                              int64_t tokens, const std::vector<std::vector<int64_t>>& bounds,
                              const PairRules& rules, int64_t element_bytes, int64_t ulysses_index,
                              int64_t ring_index);
// The same where the routes are known. `copies`: batch rows that each of their sets stands for.
LayerTraffic sequence_traffic(const ModelConfig& model, const SequenceScheme& scheme, int64_t batch,
                              int64_t tokens, const RingRoutes& up, const RingRoutes& down, int64_t copies,
                              int64_t element_bytes, int64_t ulysses_index, int64_t ring_index);

}  // namespace ithaca
