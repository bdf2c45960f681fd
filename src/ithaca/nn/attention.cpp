// B batch, S rows, H query heads, K kv heads, D head size, C hidden.
#include "ithaca/nn/attention.h"

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <set>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What backward needs beside tensors.
struct AttentionCall : torch::CustomClassHolder {
  AttentionCall(Rows r, HeadRange h, const SharedPattern& p, AttentionBackend b, AttentionStash* s)
      : rows(std::move(r)), heads(h), pattern(p), backend(b), stash(s) {}
  Rows rows;
  HeadRange heads;
  SharedPattern pattern;
  AttentionBackend backend;
  AttentionStash* stash;  // during the forward only
};

struct LocalAttention : torch::autograd::Function<LocalAttention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const c10::intrusive_ptr<AttentionCall>& call) {
    AttentionOutput result;
    if (AttentionStash* stash = call->stash; stash && stash->filled()) {
      result = {std::exchange(stash->result, {}), std::exchange(stash->tensors, {}).at(0)};
    } else {
      result = attention_block(q, k, v, call->rows, call->rows, call->heads, call->pattern, call->backend);
      if (stash) {
        stash->result = result.out;
        stash->tensors = {result.lse};
      }
    }
    call->stash = nullptr;
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->save_for_backward({q, k, v, result.out, result.lse});
    return result.out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const auto call = c10::static_intrusive_pointer_cast<AttentionCall>(ctx->saved_data["call"].toCapsule());
    const AttentionGrads d =
        attention_block_backward(grads[0].contiguous(), q, k, v, saved[3], saved[4], call->rows, call->rows,
                                 call->heads, call->pattern, call->backend);
    const at::ScalarType dtype = q.scalar_type();
    return {d.dq.to(dtype), d.dk.to(dtype), d.dv.to(dtype), at::Tensor()};
  }
};

}  // namespace

AttentionCore local_attention(AttentionBackend backend) {
  return [backend](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const HeadRange& heads,
                   const SharedPattern& pattern, AttentionStash* stash) {
    const Rows rows = {{0, q.size(1)}};
    return LocalAttention::apply(q, k, v,
                                 c10::make_intrusive<AttentionCall>(rows, heads, pattern, backend, stash));
  };
}

int64_t AttentionStash::bytes() const {
  std::set<const void*> counted;
  int64_t total = 0;
  const auto count = [&](const at::Tensor& t) {
    if (t.defined() && t.numel() > 0 && counted.insert(t.storage().data()).second)
      total += static_cast<int64_t>(t.storage().nbytes());
  };
  count(result);
  for (const at::Tensor& t : tensors) count(t);
  return total;
}

at::Tensor Attention::forward(const at::Tensor& x, const RopeTables& rope, const SharedPattern& pattern,
                              AttentionStash* stash) {
  ITHACA_CHECK(core, q_proj.weight.name, ": the attention has no core");
  const int64_t batch = x.size(0), length = x.size(1);
  const auto heads_of = [&](Linear& projection) {
    // Counted from the weight: with no row at hand a -1 in the view would be ambiguous.
    return projection.forward(x).view({batch, length, projection.weight.value.size(0) / head_dim, head_dim});
  };
  const auto placed = [&](const at::Tensor& t) { return rope.cos.defined() ? apply_rotary(t, rope) : t; };
  const at::Tensor q = placed(heads_of(q_proj)), k = placed(heads_of(k_proj));
  const at::Tensor out = core(q, k, heads_of(v_proj), heads, pattern, stash);  // [B, S, H, D]
  return o_proj.forward(out.flatten(2));
}

}  // namespace ithaca
