#include "ithaca/parallel/sequence/ulysses.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/base/error.h"
#include "ithaca/nn/parameter.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// What the backward of the functions below needs besides tensors.
struct UlyssesState : torch::CustomClassHolder {
  UlyssesSplit split;
  std::vector<HeadChunk> chunks;  // one
  Communicator* group = nullptr;
  at::ScalarType element = at::kFloat;
  int64_t row_dim = 1;
  std::vector<int64_t> expansion;  // kv head of each query head, where K and V were expanded

  const HeadRange& heads() const { return split.heads[group->rank()]; }
  UlyssesExchange exchanges() const { return {split, *group, row_dim}; }
};
using StatePtr = c10::intrusive_ptr<UlyssesState>;

StatePtr state_of(AutogradContext* ctx) {
  return c10::static_intrusive_pointer_cast<UlyssesState>(ctx->saved_data["state"].toCapsule());
}

StatePtr make_state(const HeadRange& heads, const std::vector<int64_t>& rows, Communicator& group,
                    bool sequence_first, at::ScalarType element) {
  auto state = c10::make_intrusive<UlyssesState>();
  state->split = {split_heads(heads, group.size()), rows};
  state->chunks = head_chunks(state->split.heads, 1);
  state->group = &group;
  state->row_dim = sequence_first ? 0 : 1;
  state->element = element;
  return state;
}

at::Tensor to_heads(const at::Tensor& local, const UlyssesState& state) {
  const UlyssesExchange exchanges = state.exchanges();
  at::Tensor full = exchanges.empty_full(local, state.heads().q_count);
  Exchange exchange(*state.group);
  exchanges.queries_to_heads(exchange, state.chunks[0], local, full);
  exchange.run();
  return full;
}

class ScatterHeads : public Function<ScatterHeads> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const StatePtr& state) {
    ctx->saved_data["state"] = at::IValue::make_capsule(state);
    const UlyssesExchange exchanges = state->exchanges();
    QueryKeyValue full = {exchanges.empty_full(q, state->heads().q_count),
                          exchanges.empty_full(k, state->heads().kv_count),
                          exchanges.empty_full(v, state->heads().kv_count)};
    Exchange exchange(*state->group);
    exchanges.queries_to_heads(exchange, state->chunks[0], q, full.q);
    exchanges.keys_to_heads(exchange, state->chunks[0], k, full.k);
    exchanges.keys_to_heads(exchange, state->chunks[0], v, full.v);
    exchange.run();
    if (!state->expansion.empty()) {
      const at::Tensor index =
          at::tensor(state->expansion, at::TensorOptions().dtype(at::kLong)).to(q.device());
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
          at::tensor(state->expansion, at::TensorOptions().dtype(at::kLong)).to(grad.device());
      return at::zeros(sizes, wide.options()).index_add_(2, index, wide);
    };
    const UlyssesExchange exchanges = state->exchanges();
    const HeadRange& heads = state->heads();
    at::Tensor dq = exchanges.empty_local(grads[0], heads.q_total, state->element);
    const at::Tensor dk = exchanges.empty_local(grads[0], heads.kv_total, state->element);
    const at::Tensor dv = exchanges.empty_local(grads[0], heads.kv_total, state->element);
    KeyGradients key_gradients(exchanges, dk, dv);
    Exchange exchange(*state->group);
    exchanges.queries_to_rows(exchange, state->chunks[0], grads[0], dq);
    key_gradients.to_rows(exchange, state->chunks[0], to_kv_heads(grads[1]), to_kv_heads(grads[2]));
    exchange.run();
    key_gradients.finish();
    return {dq, dk, dv, at::Tensor()};
  }
};

class GatherHeads : public Function<GatherHeads> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& out, const StatePtr& state) {
    ctx->saved_data["state"] = at::IValue::make_capsule(state);
    const UlyssesExchange exchanges = state->exchanges();
    at::Tensor local = exchanges.empty_local(out, state->heads().q_total, out.scalar_type());
    Exchange exchange(*state->group);
    exchanges.queries_to_rows(exchange, state->chunks[0], out, local);
    exchange.run();
    return local;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {to_heads(grads[0], *state_of(ctx)), at::Tensor()};
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

QueryKeyValue ulysses_scatter_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    Communicator& group, const std::vector<int64_t>& rows,
                                    bool sequence_first) {
  StatePtr state =
      make_state(HeadRange::all(q.size(2), k.size(2)), rows, group, sequence_first, q.scalar_type());
  ITHACA_CHECK(rows[group.rank()] == q.size(state->row_dim), "this rank holds ", q.size(state->row_dim),
               " rows, its share is ", rows[group.rank()]);
  state->expansion = expansion_of(state->heads());
  variable_list full = ScatterHeads::apply(q, k, v, state);
  return {full[0], full[1], full[2]};
}

at::Tensor ulysses_gather_heads(const at::Tensor& out, int64_t q_heads, int64_t kv_heads, int64_t head_dim,
                                Communicator& group, const std::vector<int64_t>& rows, bool sequence_first) {
  StatePtr state =
      make_state(HeadRange::all(q_heads, kv_heads), rows, group, sequence_first, out.scalar_type());
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
