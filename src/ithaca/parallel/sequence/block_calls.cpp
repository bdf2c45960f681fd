#include "ithaca/parallel/sequence/block_calls.h"

namespace ithaca {
namespace {

// Calls f(q run, its offset, k run, its offset) for each pair that can attend.
template <class F>
void for_each_pair_of_runs(const Rows& q_rows, const Rows& k_rows, bool causal, F f) {
  int64_t q_offset = 0;
  for (const RowRun& q : q_rows) {
    int64_t k_offset = 0;
    for (const RowRun& k : k_rows) {
      if (q.length > 0 && k.length > 0 && !(causal && k.start >= q.start + q.length))
        f(q, q_offset, k, k_offset);
      k_offset += k.length;
    }
    q_offset += q.length;
  }
}

}  // namespace

bool needs_single_runs(AttentionBackend backend, const at::Tensor& q) {
  switch (backend) {
    case AttentionBackend::kNaive:
    case AttentionBackend::kIthaca:
      return false;
    case AttentionBackend::kAten:
    case AttentionBackend::kCudnn:
      return true;
    case AttentionBackend::kAuto:
    case AttentionBackend::kFlash:
      break;
  }
  return q.is_cuda();
}

void attend_add(AttentionOutput& total, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                const AttentionPattern& pattern, AttentionBackend backend) {
  if (!needs_single_runs(backend, q) || (q_rows.size() <= 1 && k_rows.size() <= 1))
    return attention_block_add(total, q, k, v, q_rows, k_rows, heads, pattern, backend);
  for_each_pair_of_runs(q_rows, k_rows, pattern.causal,
                        [&](const RowRun& q_run, int64_t q_offset, const RowRun& k_run, int64_t k_offset) {
                          const at::Tensor out = total.out.narrow(1, q_offset, q_run.length);
                          const at::Tensor lse = total.lse.narrow(2, q_offset, q_run.length);
                          AttentionOutput part = {out.contiguous(), lse.contiguous()};
                          attention_block_add(
                              part, q.narrow(1, q_offset, q_run.length), k.narrow(1, k_offset, k_run.length),
                              v.narrow(1, k_offset, k_run.length), {q_run}, {k_run}, heads, pattern, backend);
                          if (!part.out.is_same(out)) out.copy_(part.out);
                          if (!part.lse.is_same(lse)) lse.copy_(part.lse);
                        });
}

void attend_backward_add(AttentionGrads& total, const at::Tensor& dout, const at::Tensor& q,
                         const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                         const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
                         const HeadRange& heads, const AttentionPattern& pattern, AttentionBackend backend) {
  if (!needs_single_runs(backend, q) || (q_rows.size() <= 1 && k_rows.size() <= 1))
    return attention_block_backward_add(total, dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern,
                                        backend);
  for_each_pair_of_runs(
      q_rows, k_rows, pattern.causal,
      [&](const RowRun& q_run, int64_t q_offset, const RowRun& k_run, int64_t k_offset) {
        const auto of_q = [&](const at::Tensor& t) { return t.narrow(1, q_offset, q_run.length); };
        const auto of_k = [&](const at::Tensor& t) { return t.narrow(1, k_offset, k_run.length); };
        const AttentionGrads to = {of_q(total.dq), of_k(total.dk), of_k(total.dv)};
        AttentionGrads part = {to.dq.contiguous(), to.dk.contiguous(), to.dv.contiguous()};
        attention_block_backward_add(part, of_q(dout), of_q(q), of_k(k), of_k(v), of_q(out),
                                     lse.narrow(2, q_offset, q_run.length).contiguous(), {q_run}, {k_run},
                                     heads, pattern, backend);
        if (!part.dq.is_same(to.dq)) to.dq.copy_(part.dq);
        if (!part.dk.is_same(to.dk)) to.dk.copy_(part.dk);
        if (!part.dv.is_same(to.dv)) to.dv.copy_(part.dv);
      });
}

}  // namespace ithaca
