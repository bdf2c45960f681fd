// B batch, S rows of this rank, T rows of its Ulysses group (all ranks of the group hold them, for some heads
// each), H query heads, K kv heads, D head size; h, k of this rank.
#include "ithaca/parallel/sequence/sequence_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/base/error.h"
#include "ithaca/comm/communicator.h"
#include "ithaca/nn/parameter.h"
#include "ithaca/parallel/sequence/batch_plan.h"
#include "ithaca/parallel/sequence/gather_kv.h"
#include "ithaca/parallel/sequence/ring.h"
#include "ithaca/parallel/sequence/ulysses.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// The grid's two groups as one rank sees them; null: a group of this rank alone.
struct Groups {
  Communicator* ulysses = nullptr;
  Communicator* ring = nullptr;

  int ulysses_size() const { return ulysses ? ulysses->size() : 1; }
  int ring_size() const { return ring ? ring->size() : 1; }
};

// One call of the core, as the backward pass needs it besides tensors.
struct Call : torch::CustomClassHolder {
  Groups groups;
  SequenceAttentionOptions options;
  std::shared_ptr<const BatchPlan> plan;
  UlyssesSplit split;
  std::vector<HeadChunk> chunks;
  HeadRange heads;                  // of the local tensors
  AttentionStash* stash = nullptr;  // during the forward only

  int rank() const { return groups.ulysses ? groups.ulysses->rank() : 0; }
  const HeadRange& chunk_heads(std::size_t chunk) const { return chunks[chunk].heads[rank()]; }
  const HeadRange& my_heads() const { return split.heads[rank()]; }
};
using CallPtr = c10::intrusive_ptr<Call>;

// Attention among the ring's ranks, or here.
AttentionOutput attend(const Call& call, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const HeadRange& heads) {
  const AttentionBackend backend = call.options.backend;
  if (call.groups.ring_size() == 1) {
    const BatchSlice& all = call.plan->slices.front();
    const Rows rows = to_rows(all.rows.front());
    return attention_block(q, k, v, rows, rows, heads, all.pattern, backend);
  }
  return call.options.ring_method == RingMethod::kRing
             ? ring_forward(q, k, v, heads, *call.plan, *call.groups.ring, backend)
             : gather_kv_forward(q, k, v, heads, *call.plan, *call.groups.ring, backend);
}

AttentionGrads attend_backward(const Call& call, const at::Tensor& dout, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                               const at::Tensor& lse, const HeadRange& heads) {
  const AttentionBackend backend = call.options.backend;
  if (call.groups.ring_size() == 1) {
    const BatchSlice& all = call.plan->slices.front();
    const Rows rows = to_rows(all.rows.front());
    return attention_block_backward(dout, q, k, v, out, lse, rows, rows, heads, all.pattern, backend);
  }
  return call.options.ring_method == RingMethod::kRing
             ? ring_backward(dout, q, k, v, out, lse, heads, *call.plan, *call.groups.ring, backend)
             : gather_kv_backward(dout, q, k, v, out, lse, heads, *call.plan, *call.groups.ring, backend);
}

// What attention saw and gave, for this rank's heads; q, out and lse by chunk.
struct Attended {
  at::Tensor k, v;
  std::vector<at::Tensor> q, out, lse;
};

// The kv heads of a chunk, of tensors that hold those of all chunks.
at::Tensor kv_of_chunk(const Call& call, std::size_t chunk, const at::Tensor& t) {
  const HeadRange& heads = call.chunk_heads(chunk);
  return t.narrow(2, heads.kv_begin - call.my_heads().kv_begin, heads.kv_count);
}

AttentionOutput attend_chunk(const Call& call, std::size_t chunk, const Attended& at) {
  const HeadRange& heads = call.chunk_heads(chunk);
  if (heads.q_count == 0) return {at.q[chunk], at::empty({0}, at.q[chunk].options())};
  return attend(call, at.q[chunk], kv_of_chunk(call, chunk, at.k), kv_of_chunk(call, chunk, at.v), heads);
}

// The exchange before attention, chunk by chunk: compute(chunk) runs while the next one, and nothing else, is on
// its way.
template <class Compute>
void exchange_inputs(const Call& call, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     Attended& at, Compute compute) {
  const UlyssesExchange exchanges(call.split, *call.groups.ulysses, 1);
  at.k = exchanges.empty_full(k, call.my_heads().kv_count);
  at.v = exchanges.empty_full(v, call.my_heads().kv_count);
  std::vector<Exchange> inbound;
  const auto start = [&](std::size_t chunk) {
    at.q.push_back(exchanges.empty_full(q, call.chunk_heads(chunk).q_count));
    Exchange& exchange = inbound.emplace_back(*call.groups.ulysses);
    exchanges.queries_to_heads(exchange, call.chunks[chunk], q, at.q[chunk]);
    exchanges.keys_to_heads(exchange, call.chunks[chunk], k, at.k);
    exchanges.keys_to_heads(exchange, call.chunks[chunk], v, at.v);
    exchange.start();
  };
  start(0);
  for (std::size_t chunk = 0; chunk < call.chunks.size(); ++chunk) {
    inbound[chunk].finish();
    if (chunk + 1 < call.chunks.size()) start(chunk + 1);
    compute(chunk);
  }
}

at::Tensor forward_with_ulysses(const Call& call, const at::Tensor& q, const at::Tensor& k,
                                const at::Tensor& v, Attended& at) {
  const UlyssesExchange exchanges(call.split, *call.groups.ulysses, 1);
  at::Tensor result = exchanges.empty_local(q, q.size(2), q.scalar_type());
  std::vector<Exchange> outbound;
  exchange_inputs(call, q, k, v, at, [&](std::size_t chunk) {
    AttentionOutput output = attend_chunk(call, chunk, at);
    at.out.push_back(output.out);
    at.lse.push_back(output.lse);
    Exchange& exchange = outbound.emplace_back(*call.groups.ulysses);
    exchanges.queries_to_rows(exchange, call.chunks[chunk], output.out, result);
    exchange.start();
  });
  for (Exchange& exchange : outbound) exchange.finish();
  return result;
}

// The stash holds out and lse by chunk, then, where asked for, k, v and q by chunk.
void put(AttentionStash& stash, const Call& call, const at::Tensor& result, const Attended& at) {
  stash.result = result;
  stash.tensors.clear();
  for (std::size_t chunk = 0; chunk < at.out.size(); ++chunk) {
    stash.tensors.push_back(at.out[chunk]);
    stash.tensors.push_back(at.lse[chunk]);
  }
  if (stash.keep != AttentionStash::Keep::kAll || call.groups.ulysses_size() == 1) return;
  stash.tensors.push_back(at.k);
  stash.tensors.push_back(at.v);
  for (const at::Tensor& q : at.q) stash.tensors.push_back(q);
}

at::Tensor take(AttentionStash& stash, const Call& call, const at::Tensor& q, const at::Tensor& k,
                const at::Tensor& v, Attended& at) {
  const std::vector<at::Tensor> held = std::exchange(stash.tensors, {});
  const std::size_t chunks = call.chunks.size();
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    at.out.push_back(held.at(2 * chunk));
    at.lse.push_back(held.at(2 * chunk + 1));
  }
  if (call.groups.ulysses_size() == 1) {
    at.k = k;
    at.v = v;
    at.q = {q};
  } else if (held.size() > 2 * chunks) {
    at.k = held.at(2 * chunks);
    at.v = held.at(2 * chunks + 1);
    at.q.assign(held.begin() + static_cast<std::ptrdiff_t>(2 * chunks) + 2, held.end());
  } else {
    exchange_inputs(call, q, k, v, at, [](std::size_t) {});
  }
  return std::exchange(stash.result, {});
}

class SequenceAttention : public Function<SequenceAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const CallPtr& call) {
    Attended at;
    at::Tensor result;
    AttentionStash* stash = std::exchange(call->stash, nullptr);
    if (stash && stash->filled()) {
      result = take(*stash, *call, q, k, v, at);
    } else {
      if (call->groups.ulysses_size() == 1) {
        AttentionOutput output = attend(*call, q, k, v, call->heads);
        at = {k, v, {q}, {output.out}, {output.lse}};
        result = output.out;
      } else {
        result = forward_with_ulysses(*call, q, k, v, at);
      }
      if (stash) put(*stash, *call, result, at);
    }
    variable_list saved = {at.k, at.v};
    for (std::size_t chunk = 0; chunk < at.q.size(); ++chunk) {
      saved.push_back(at.q[chunk]);
      saved.push_back(at.out[chunk]);
      saved.push_back(at.lse[chunk]);
    }
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["call"] = at::IValue::make_capsule(call);
    return result;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(ctx->saved_data["call"].toCapsule());
    const variable_list saved = ctx->get_saved_variables();
    Attended at = {saved[0], saved[1], {}, {}, {}};
    for (std::size_t i = 2; i < saved.size(); i += 3) {
      at.q.push_back(saved[i]);
      at.out.push_back(saved[i + 1]);
      at.lse.push_back(saved[i + 2]);
    }
    const at::ScalarType element = at.k.scalar_type();
    const at::Tensor dout = grads[0].contiguous();
    if (call->groups.ulysses_size() == 1) {
      const AttentionGrads d =
          attend_backward(*call, dout, at.q[0], at.k, at.v, at.out[0], at.lse[0], call->heads);
      return {d.dq.to(element), d.dk.to(element), d.dv.to(element), at::Tensor()};
    }
    return backward_with_ulysses(*call, dout, at, element);
  }

 private:
  static variable_list backward_with_ulysses(const Call& call, const at::Tensor& dout, const Attended& at,
                                             at::ScalarType element) {
    Communicator& group = *call.groups.ulysses;
    const UlyssesExchange exchanges(call.split, group, 1);
    at::Tensor dq = exchanges.empty_local(dout, call.heads.q_count, element);
    const at::Tensor dk = exchanges.empty_local(dout, call.heads.kv_count, element);
    const at::Tensor dv = exchanges.empty_local(dout, call.heads.kv_count, element);
    KeyGradients key_gradients(exchanges, dk, dv);
    at::Tensor full_dk, full_dv;  // of this rank's heads, opmath
    std::vector<at::Tensor> douts;
    std::vector<Exchange> inbound, outbound;
    const auto start = [&](std::size_t chunk) {
      douts.push_back(exchanges.empty_full(dout, call.chunk_heads(chunk).q_count));
      Exchange& exchange = inbound.emplace_back(group);
      exchanges.queries_to_heads(exchange, call.chunks[chunk], dout, douts[chunk]);
      exchange.start();
    };
    start(0);
    for (std::size_t chunk = 0; chunk < call.chunks.size(); ++chunk) {
      inbound[chunk].finish();
      if (chunk + 1 < call.chunks.size()) start(chunk + 1);
      const HeadRange& heads = call.chunk_heads(chunk);
      at::Tensor chunk_dq = at.q[chunk];  // no heads: nothing to send
      if (heads.q_count > 0) {
        const AttentionGrads d =
            attend_backward(call, douts[chunk], at.q[chunk], kv_of_chunk(call, chunk, at.k),
                            kv_of_chunk(call, chunk, at.v), at.out[chunk], at.lse[chunk], heads);
        chunk_dq = d.dq.to(element);
        if (call.chunks.size() == 1) {
          full_dk = d.dk;
          full_dv = d.dv;
        } else {
          if (!full_dk.defined()) {
            full_dk = at::zeros(at.k.sizes(), d.dk.options());
            full_dv = at::zeros(at.v.sizes(), d.dv.options());
          }
          kv_of_chunk(call, chunk, full_dk).add_(d.dk);
          kv_of_chunk(call, chunk, full_dv).add_(d.dv);
        }
      }
      Exchange& exchange = outbound.emplace_back(group);
      exchanges.queries_to_rows(exchange, call.chunks[chunk], chunk_dq, dq);
      key_gradients.to_rows(exchange, call.chunks[chunk], full_dk, full_dv);
      exchange.start();
    }
    for (Exchange& exchange : outbound) exchange.finish();
    key_gradients.finish();
    return {dq, dk, dv, at::Tensor()};
  }
};

AttentionCore make_core(const Groups& groups, const SequenceAttentionOptions& options,
                        std::shared_ptr<PlanCache> cache = nullptr) {
  const int ring = groups.ring_size(), inner = options.cp_window_size;
  if (inner < 1 || ring % inner != 0 || (inner > 1 && inner == ring))
    throw UserError(str("cp_window_size ", inner, " does not fit a ring of ", ring,
                        " ranks; choose a divisor of it that is smaller"));
  if (options.ulysses_chunks < 1)
    throw UserError(str("ulysses_chunks is ", options.ulysses_chunks, "; it must be at least 1"));
  if (!cache) cache = std::make_shared<PlanCache>(groups.ulysses_size(), ring, inner);
  return [groups, options, cache](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const HeadRange& heads, const SharedPattern& pattern,
                                  AttentionStash* stash) {
    auto call = c10::make_intrusive<Call>();
    call->groups = groups;
    call->options = options;
    call->heads = heads;
    call->stash = stash;
    call->plan = cache->get(pattern, q.size(0));
    const int ring_rank = groups.ring ? groups.ring->rank() : 0;
    call->split = {split_heads(heads, groups.ulysses_size()), call->plan->layout.ulysses_counts(ring_rank)};
    call->chunks = head_chunks(call->split.heads, groups.ulysses_size() == 1 ? 1 : options.ulysses_chunks);
    const int64_t rows = call->split.rows[call->rank()];
    ITHACA_CHECK(q.size(1) == rows && k.size(1) == rows && v.size(1) == rows, "this rank holds ", q.size(1),
                 " rows, its share is ", rows);
    return SequenceAttention::apply(q, k, v, call);
  };
}

}  // namespace

AttentionCore sequence_attention(Communicator& ulysses, Communicator& ring,
                                 const SequenceAttentionOptions& options) {
  if (ulysses.size() == 1 && ring.size() == 1) return local_attention(options.backend);
  return make_core({&ulysses, &ring}, options);
}

AttentionCore sequence_attention(Communicator& ulysses, Communicator& ring,
                                 const SequenceAttentionOptions& options, std::shared_ptr<PlanCache> plans) {
  if (ulysses.size() == 1 && ring.size() == 1) return local_attention(options.backend);
  return make_core({&ulysses, &ring}, options, std::move(plans));
}

AttentionCore ring_attention(Communicator& ring, const SequenceAttentionOptions& options) {
  if (ring.size() == 1) return local_attention(options.backend);
  return make_core({nullptr, &ring}, options);
}

AttentionCore ulysses_attention(Communicator& group, AttentionBackend backend) {
  if (group.size() == 1) return local_attention(backend);
  SequenceAttentionOptions options;
  options.backend = backend;
  return make_core({&group, nullptr}, options);
}

}  // namespace ithaca
