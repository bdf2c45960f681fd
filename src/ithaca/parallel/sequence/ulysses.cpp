#include "ithaca/parallel/sequence/ulysses.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <numeric>

#include "ithaca/base/error.h"
#include "ithaca/base/split.h"
#include "ithaca/comm/communicator.h"
#include "ithaca/config/layout.h"
#include "ithaca/nn/parameter.h"
#include "ithaca/parallel/sequence/exchange.h"
#include "ithaca/parallel/sequence/layout.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Rows of rank j of a tensor that holds the whole sequence, and heads of rank j of one that holds all heads.
at::Tensor rows_of(const at::Tensor& t, const UlyssesSplit& split, int j, int64_t row_dim) {
  return t.narrow(row_dim, split.row_begin(j), split.rows[j]);
}
at::Tensor q_part_of(const at::Tensor& t, const UlyssesSplit& split, int j) {
  return t.narrow(2, split.heads[j].q_begin - split.heads[0].q_begin, split.heads[j].q_count);
}
at::Tensor kv_part_of(const at::Tensor& t, const UlyssesSplit& split, int j) {
  return t.narrow(2, split.heads[j].kv_begin - split.heads[0].kv_begin, split.heads[j].kv_count);
}

// Tensor like `t` with the row and head sizes and the dtype given, in the same order of dims.
at::Tensor empty_like_with(const at::Tensor& t, int64_t row_dim, int64_t rows, int64_t heads,
                           at::ScalarType dtype) {
  std::vector<int64_t> sizes = t.sizes().vec();
  sizes[row_dim] = rows;
  sizes[2] = heads;
  return at::empty(sizes, t.options().dtype(dtype));
}
at::Tensor empty_like_with(const at::Tensor& t, int64_t row_dim, int64_t rows, int64_t heads) {
  return empty_like_with(t, row_dim, rows, heads, t.scalar_type());
}

// q, k, v of this rank's rows -> of its heads, whole sequence. Also moves dout (k, v undefined then).
QueryKeyValue exchange_to_heads(const QueryKeyValue& local, const UlyssesSplit& split, Communicator& group,
                                int64_t row_dim) {
  const HeadRange& mine = split.heads[group.rank()];
  QueryKeyValue full;
  full.q = empty_like_with(local.q, row_dim, split.length(), mine.q_count);
  if (local.k.defined()) {
    full.k = empty_like_with(local.k, row_dim, split.length(), mine.kv_count);
    full.v = empty_like_with(local.v, row_dim, split.length(), mine.kv_count);
  }
  Exchange exchange(group);
  for (int j = 0; j < group.size(); ++j) {
    exchange.send(j, q_part_of(local.q, split, j));
    exchange.receive(j, rows_of(full.q, split, j, row_dim));
    if (!local.k.defined()) continue;
    exchange.send(j, kv_part_of(local.k, split, j));
    exchange.send(j, kv_part_of(local.v, split, j));
    exchange.receive(j, rows_of(full.k, split, j, row_dim));
    exchange.receive(j, rows_of(full.v, split, j, row_dim));
  }
  exchange.run();
  return full;
}

// The way back for one tensor of query heads (out, or dq alone).
at::Tensor exchange_to_rows(const at::Tensor& full, const UlyssesSplit& split, Communicator& group,
                            int64_t row_dim) {
  const int64_t q_count = split.heads[0].q_total;
  at::Tensor local = empty_like_with(full, row_dim, split.rows[group.rank()], q_count);
  Exchange exchange(group);
  for (int j = 0; j < group.size(); ++j) {
    exchange.send(j, rows_of(full, split, j, row_dim));
    exchange.receive(j, q_part_of(local, split, j));
  }
  exchange.run();
  return local;
}

// The local kv heads of rank `owner` that other ranks use too (shared), or do not.
std::vector<int64_t> kv_heads_by_sharing(const UlyssesSplit& split, int owner, bool shared) {
  std::vector<int64_t> heads;
  for (int64_t kv = 0; kv < split.heads[owner].kv_count; ++kv)
    if (split.shared(owner, kv) == shared) heads.push_back(kv);
  return heads;
}

// dq (element type), dk, dv (opmath) of this rank's heads over the whole sequence -> of its rows, all heads,
// in the element type. A kv head used by one rank travels in the element type; one used by several travels in
// opmath and is summed in rank order.
QueryKeyValue exchange_grads_to_rows(const QueryKeyValue& full, at::ScalarType element,
                                     const UlyssesSplit& split, Communicator& group, int64_t row_dim) {
  const int rank = group.rank();
  const int64_t rows = split.rows[rank];
  const int64_t q_total = split.heads[0].q_total, kv_total = split.heads[0].kv_total;
  QueryKeyValue local;
  local.q = empty_like_with(full.q, row_dim, rows, q_total);
  local.k = empty_like_with(full.k, row_dim, rows, kv_total, element);
  local.v = empty_like_with(full.v, row_dim, rows, kv_total, element);

  struct Partial {  // of a shared kv head, from one rank
    int64_t kv;     // global
    at::Tensor dk, dv;
  };
  std::vector<Partial> partials;
  Exchange exchange(group);
  for (int j = 0; j < group.size(); ++j) {
    exchange.send(j, rows_of(full.q, split, j, row_dim));
    exchange.receive(j, q_part_of(local.q, split, j));
    for (const int64_t kv : kv_heads_by_sharing(split, rank, true)) {
      exchange.send(j, rows_of(full.k, split, j, row_dim).select(2, kv));
      exchange.send(j, rows_of(full.v, split, j, row_dim).select(2, kv));
    }
    for (const int64_t kv : kv_heads_by_sharing(split, j, true)) {
      std::vector<int64_t> sizes = local.k.select(2, 0).sizes().vec();
      Partial partial{split.heads[j].kv_begin + kv, at::empty(sizes, full.k.options()),
                      at::empty(sizes, full.v.options())};
      exchange.receive(j, partial.dk);
      exchange.receive(j, partial.dv);
      partials.push_back(std::move(partial));
    }
    for (const int64_t kv : kv_heads_by_sharing(split, rank, false)) {
      exchange.send(j, rows_of(full.k, split, j, row_dim).select(2, kv).to(element));
      exchange.send(j, rows_of(full.v, split, j, row_dim).select(2, kv).to(element));
    }
    for (const int64_t kv : kv_heads_by_sharing(split, j, false)) {
      exchange.receive(j, local.k.select(2, split.heads[j].kv_begin + kv));
      exchange.receive(j, local.v.select(2, split.heads[j].kv_begin + kv));
    }
  }
  exchange.run();

  for (std::size_t i = 0; i < partials.size(); ++i) {  // the first partial of a head takes in the others
    Partial& sum = partials[i];
    if (!sum.dk.defined()) continue;
    for (std::size_t k = i + 1; k < partials.size(); ++k) {
      if (partials[k].kv != sum.kv) continue;
      sum.dk.add_(partials[k].dk);
      sum.dv.add_(partials[k].dv);
      partials[k].dk = partials[k].dv = at::Tensor();
    }
    local.k.select(2, sum.kv).copy_(sum.dk);
    local.v.select(2, sum.kv).copy_(sum.dv);
  }
  return local;
}

// What the backward of the functions below needs besides tensors.
struct UlyssesState : torch::CustomClassHolder {
  UlyssesSplit split;
  Communicator* group = nullptr;
  AttentionBackend backend = AttentionBackend::kAuto;
  AttentionPattern pattern;
  at::ScalarType element = at::kFloat;
  int64_t row_dim = 1;
  std::vector<int64_t> expansion;  // kv head of each query head, where K and V were expanded

  HeadRange heads() const { return split.heads[group->rank()]; }
};
using StatePtr = c10::intrusive_ptr<UlyssesState>;

StatePtr state_of(AutogradContext* ctx) {
  return c10::static_intrusive_pointer_cast<UlyssesState>(ctx->saved_data["state"].toCapsule());
}

StatePtr make_state(const HeadRange& heads, const std::vector<int64_t>& rows, Communicator& group,
                    int64_t row_dim, const at::Tensor& q) {
  auto state = c10::make_intrusive<UlyssesState>();
  state->split = {split_heads(heads, group.size()), rows};
  state->group = &group;
  state->row_dim = row_dim;
  state->element = q.scalar_type();
  ITHACA_CHECK(rows[group.rank()] == q.size(row_dim), "this rank holds ", q.size(row_dim),
               " rows, its share is ", rows[group.rank()]);
  return state;
}

// Exchange, attention and exchange as one node: dK and dV go from the kernel to the wire in opmath,
// unrounded.
class UlyssesAttention : public Function<UlyssesAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const StatePtr& state) {
    QueryKeyValue full = exchange_to_heads({q, k, v}, state->split, *state->group, 1);
    const Rows rows = {{0, state->split.length()}};
    AttentionOutput attention =
        attention_block(full.q, full.k, full.v, rows, rows, state->heads(), state->pattern, state->backend);
    ctx->save_for_backward({full.q, full.k, full.v, attention.out, attention.lse});
    ctx->saved_data["state"] = at::IValue::make_capsule(state);
    return exchange_to_rows(attention.out, state->split, *state->group, 1);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const StatePtr state = state_of(ctx);
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor dout = exchange_to_heads({grads[0], {}, {}}, state->split, *state->group, 1).q;
    const Rows rows = {{0, state->split.length()}};
    AttentionGrads full =
        attention_block_backward(dout, saved[0], saved[1], saved[2], saved[3], saved[4], rows, rows,
                                 state->heads(), state->pattern, state->backend);
    QueryKeyValue local = exchange_grads_to_rows({full.dq.to(state->element), full.dk, full.dv},
                                                 state->element, state->split, *state->group, 1);
    return {local.q, local.k, local.v, at::Tensor()};
  }
};

class ScatterHeads : public Function<ScatterHeads> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const StatePtr& state) {
    QueryKeyValue full = exchange_to_heads({q, k, v}, state->split, *state->group, state->row_dim);
    ctx->saved_data["state"] = at::IValue::make_capsule(state);
    if (!state->expansion.empty()) {
      const at::Tensor index =
          at::tensor(state->expansion, at::TensorOptions().dtype(at::kLong).device(q.device()));
      full.k = full.k.index_select(2, index);
      full.v = full.v.index_select(2, index);
    }
    return {full.q, full.k, full.v};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const StatePtr state = state_of(ctx);
    const auto to_kv_heads = [&](const at::Tensor& grad) {
      at::Tensor wide = grad.to(opmath(state->element));
      if (state->expansion.empty()) return wide;
      std::vector<int64_t> sizes = wide.sizes().vec();
      sizes[2] = state->heads().kv_count;
      const at::Tensor index =
          at::tensor(state->expansion, at::TensorOptions().dtype(at::kLong).device(grad.device()));
      return at::zeros(sizes, wide.options()).index_add_(2, index, wide);
    };
    QueryKeyValue local = exchange_grads_to_rows({grads[0], to_kv_heads(grads[1]), to_kv_heads(grads[2])},
                                                 state->element, state->split, *state->group, state->row_dim);
    return {local.q, local.k, local.v, at::Tensor()};
  }
};

class GatherHeads : public Function<GatherHeads> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& out, const StatePtr& state) {
    ctx->saved_data["state"] = at::IValue::make_capsule(state);
    return exchange_to_rows(out, state->split, *state->group, state->row_dim);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const StatePtr state = state_of(ctx);
    return {exchange_to_heads({grads[0], {}, {}}, state->split, *state->group, state->row_dim).q,
            at::Tensor()};
  }
};

// The kv head of each query head, when the group is not h / k consecutive query heads a kv head; else empty.
std::vector<int64_t> expansion_of(const HeadRange& heads) {
  std::vector<int64_t> kv_of_head(heads.q_count);
  bool regular = heads.q_count % heads.kv_count == 0;
  for (int64_t h = 0; h < heads.q_count; ++h) {
    kv_of_head[h] = heads.kv_of(h);
    regular = regular && kv_of_head[h] == h * heads.kv_count / heads.q_count;
  }
  return regular ? std::vector<int64_t>() : kv_of_head;
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

AttentionCore ulysses_attention(Communicator& group, AttentionBackend backend) {
  if (group.size() == 1) return local_attention(backend);
  return [&group, backend](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const HeadRange& heads, const AttentionPattern& pattern) {
    ITHACA_CHECK(pattern.sequence_length > 0, "the length of the whole sequence is not known");
    StatePtr state = make_state(heads, contiguous_split(pattern.sequence_length, group.size()), group, 1, q);
    state->backend = backend;
    state->pattern = pattern;
    return UlyssesAttention::apply(q, k, v, state);
  };
}

QueryKeyValue ulysses_scatter_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    Communicator& group, const std::vector<int64_t>& rows,
                                    bool sequence_first) {
  StatePtr state = make_state(HeadRange::all(q.size(2), k.size(2)), rows, group, sequence_first ? 0 : 1, q);
  state->expansion = expansion_of(state->heads());
  variable_list full = ScatterHeads::apply(q, k, v, state);
  return {full[0], full[1], full[2]};
}

at::Tensor ulysses_gather_heads(const at::Tensor& out, int64_t q_heads, int64_t kv_heads, int64_t head_dim,
                                Communicator& group, const std::vector<int64_t>& rows, bool sequence_first) {
  auto state = c10::make_intrusive<UlyssesState>();
  state->split = {split_heads(HeadRange::all(q_heads, kv_heads), group.size()), rows};
  state->group = &group;
  state->row_dim = sequence_first ? 0 : 1;
  state->element = out.scalar_type();
  const bool merged = out.dim() == 3;
  const at::Tensor heads = merged ? out.unflatten(2, {out.size(2) / head_dim, head_dim}) : out;
  ITHACA_CHECK(heads.dim() == 4 && heads.size(2) == state->heads().q_count &&
                   heads.size(state->row_dim) == state->split.length(),
               "the local attention returned ", out.sizes(), ", expected ", state->split.length(),
               " rows of ", state->heads().q_count, " heads, apart or merged");
  const at::Tensor local = GatherHeads::apply(heads, state);
  return merged ? local.flatten(2) : local;
}

}  // namespace ithaca
