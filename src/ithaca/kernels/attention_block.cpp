// Checks, the choice of backend, and the loop over documents and head groups around a dense kernel.
// Shape letters: B batch, Sq and Sk rows at hand, H query heads, K kv heads, D head size.
#include "ithaca/kernels/attention_block.h"

#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>

#include "ithaca/base/error.h"
#include "ithaca/kernels/attention_dense.h"
#include "ithaca/kernels/attention_ithaca.h"
#include "ithaca/kernels/attention_plan.h"
#include "ithaca/kernels/reference.h"

namespace ithaca {
namespace {

void check_rows(const Rows& rows, int64_t size, const char* what) {
  int64_t total = 0;
  for (const RowRun& run : rows) {
    ITHACA_CHECK(run.start >= 0 && run.length >= 0, what, " has a run of ", run.length, " rows at ",
                 run.start);
    total += run.length;
  }
  ITHACA_CHECK(total == size, what, " describes ", total, " rows, the tensor has ", size);
}

void check_heads(const HeadRange& heads, int64_t q_heads, int64_t kv_heads) {
  ITHACA_CHECK(heads.q_count == q_heads && heads.kv_count == kv_heads, "heads say ", heads.q_count, " / ",
               heads.kv_count, ", the tensors have ", q_heads, " / ", kv_heads);
  ITHACA_CHECK(heads.q_begin >= 0 && heads.q_begin + q_heads <= heads.q_total && heads.kv_total > 0 &&
                   heads.kv_total <= heads.q_total,
               "query heads ", heads.q_begin, " + ", q_heads, " of ", heads.q_total, ", kv heads ",
               heads.kv_total);
  if (q_heads > 0)
    ITHACA_CHECK(heads.kv_of(0) >= 0 && heads.kv_of(q_heads - 1) < kv_heads, "query heads from ",
                 heads.q_begin, " need kv heads outside ", heads.kv_begin, " + ", kv_heads);
}

void check_documents(const AttentionPattern& pattern, int64_t batch) {
  if (pattern.documents.empty()) return;
  ITHACA_CHECK(static_cast<int64_t>(pattern.documents.size()) == batch, "documents of ",
               pattern.documents.size(), " rows for a batch of ", batch);
  for (const std::vector<int64_t>& bounds : pattern.documents) {
    ITHACA_CHECK(!bounds.empty() && bounds.front() == 0, "document bounds must begin with 0");
    for (size_t i = 1; i < bounds.size(); ++i)
      ITHACA_CHECK(bounds[i - 1] <= bounds[i], "document bound ", bounds[i], " comes after ", bounds[i - 1]);
  }
}

void check_pattern(const AttentionPattern& pattern, const HeadRange& heads) {
  ITHACA_CHECK(pattern.window >= 0, "window ", pattern.window);
  ITHACA_CHECK(
      pattern.alibi_slopes.empty() || static_cast<int64_t>(pattern.alibi_slopes.size()) == heads.q_total,
      pattern.alibi_slopes.size(), " ALiBi slopes for ", heads.q_total, " query heads");
  const SparseBlocks& sparse = pattern.sparse;
  if (!sparse.enabled()) return;
  if (sparse.mask_blocks > 0) {
    ITHACA_CHECK(static_cast<int64_t>(sparse.mask.size()) == sparse.mask_blocks * sparse.mask_blocks,
                 "sparse mask of ", sparse.mask.size(), " entries for ", sparse.mask_blocks, " blocks");
  } else {
    ITHACA_CHECK(sparse.num_local_blocks > 0 && sparse.num_global_blocks >= 0 &&
                     sparse.num_global_blocks <= sparse.num_local_blocks,
                 "sparse blocks: ", sparse.num_global_blocks, " global of ", sparse.num_local_blocks,
                 " local");
  }
}

void check(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Rows& q_rows,
           const Rows& k_rows, const HeadRange& heads, const AttentionPattern& pattern) {
  ITHACA_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4, "q, k, v must be [B, S, H, D]");
  ITHACA_CHECK(k.sizes() == v.sizes() && q.size(0) == k.size(0) && q.size(3) == k.size(3), "q ", q.sizes(),
               ", k ", k.sizes(), ", v ", v.sizes());
  ITHACA_CHECK(
      q.is_floating_point() && q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type(),
      "q, k, v of one float dtype: ", q.scalar_type(), ", ", k.scalar_type(), ", ", v.scalar_type());
  ITHACA_CHECK(q.device() == k.device() && q.device() == v.device(), "q, k, v on one device");
  ITHACA_CHECK(q.size(3) > 0, "head size 0");
  check_rows(q_rows, q.size(1), "q_rows");
  check_rows(k_rows, k.size(1), "k_rows");
  check_heads(heads, q.size(2), k.size(2));
  check_documents(pattern, q.size(0));
  check_pattern(pattern, heads);
}

// What the dense kernels cannot do is refused by the name of the setting that asks for it.
void check_dense_pattern(const AttentionPattern& pattern, const char* backend, const at::Device& device) {
  const char* setting = pattern.window > 0              ? "sliding_window"
                        : !pattern.alibi_slopes.empty() ? "position_embedding: alibi"
                        : pattern.sparse.enabled()      ? "sparse_attention"
                                                        : nullptr;
  if (setting)
    throw UserError(ithaca::str("attention: ", backend, " cannot do ", setting,
                                ". Use attention: ", device.is_cpu() ? "auto, ithaca or naive" : "naive",
                                ", or train without ", setting));
}

// cuDNN takes head sizes up to 128 on every GPU it supports, FlashAttention up to 256.
AttentionBackend resolve(AttentionBackend backend, const at::Tensor& q) {
  if (q.is_cpu() && (backend == AttentionBackend::kAuto || backend == AttentionBackend::kFlash))
    return AttentionBackend::kIthaca;
  if (backend == AttentionBackend::kIthaca && !q.is_cpu())
    throw UserError(ithaca::str("attention: ithaca is a CPU kernel, the tensors are on ", q.device(),
                                ". Use auto, cudnn, flash or naive"));
  if (backend != AttentionBackend::kAuto) return backend;
  return q.size(-1) <= 128 ? AttentionBackend::kCudnn : AttentionBackend::kFlash;
}

void check_cuda(const char* name, const at::Tensor& q, int64_t max_head_dim) {
  if (!q.is_cuda())
    throw UserError(ithaca::str("attention: ", name, " needs a CUDA device, the tensors are on ", q.device(),
                                ". Use auto, ithaca, aten or naive"));
  if (q.scalar_type() != at::kBFloat16 && q.scalar_type() != at::kHalf)
    throw UserError(ithaca::str("attention: ", name, " on ", q.device(), " takes bfloat16 or float16, not ",
                                q.scalar_type(), ". Set bf16: true, or attention: naive"));
  if (q.size(-1) > max_head_dim)
    throw UserError(ithaca::str("attention: ", name, " takes head sizes up to ", max_head_dim, ", not ",
                                q.size(-1), ". Use attention: naive"));
}

DenseAttention dense_attention(AttentionBackend backend, const at::Tensor& q) {
  if (backend == AttentionBackend::kAten) {
    if (!q.is_cpu())
      throw UserError(ithaca::str("attention: aten is ATen's CPU kernel, the tensors are on ", q.device(),
                                  ". Use auto, cudnn, flash or naive"));
    return aten_cpu_attention();
  }
  const bool flash = backend == AttentionBackend::kFlash;
  check_cuda(flash ? "flash" : "cudnn", q, flash ? 256 : 128);
  return flash ? flash_cuda_attention() : cudnn_cuda_attention();
}

// Batch rows [begin, begin + count) that share one list of dense calls.
struct BatchTasks {
  int64_t begin = 0, count = 0;
  std::vector<DenseTask> tasks;
};

std::vector<BatchTasks> plan(const Rows& q_rows, const Rows& k_rows, const AttentionPattern& pattern,
                             int64_t batch, const char* backend) {
  if (pattern.documents.empty())
    return {{0, batch, dense_tasks(document_rows(q_rows, k_rows, {}), pattern.causal, backend)}};
  std::vector<BatchTasks> rows;
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<DenseTask> tasks =
        dense_tasks(document_rows(q_rows, k_rows, pattern.documents[b]), pattern.causal, backend);
    if (!rows.empty() && rows.back().tasks == tasks) {
      ++rows.back().count;
    } else {
      rows.push_back({b, 1, std::move(tasks)});
    }
  }
  return rows;
}

at::Tensor block(const at::Tensor& t, int64_t batch, int64_t batches, int64_t row, int64_t rows, int64_t head,
                 int64_t heads) {
  return t.narrow(0, batch, batches).narrow(1, row, rows).narrow(2, head, heads);
}

double scale_of(const AttentionPattern& pattern, const at::Tensor& q) {
  return pattern.scale != 0 ? pattern.scale : 1 / std::sqrt(static_cast<double>(q.size(-1)));
}

// Calls f(batch rows, task, head group) for every dense call; `whole` says that one call covers all of q.
template <class F>
void for_each_call(const std::vector<BatchTasks>& batches, const std::vector<HeadGroup>& groups, F f) {
  for (const BatchTasks& rows : batches)
    for (const DenseTask& task : rows.tasks)
      for (const HeadGroup& group : groups) f(rows, task, group);
}

// One call that covers all of q and k: its results are the answer, nothing needs filling or copying.
bool covers_all(const std::vector<BatchTasks>& batches, const std::vector<HeadGroup>& groups,
                const at::Tensor& q, const at::Tensor& k) {
  return batches.size() == 1 && batches[0].tasks.size() == 1 && groups.size() == 1 &&
         batches[0].count == q.size(0) && batches[0].tasks[0].q_length == q.size(1) &&
         batches[0].tasks[0].k_length == k.size(1) && groups[0].kv_count == k.size(2);
}

AttentionOutput dense_forward(const DenseAttention& dense, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const Rows& q_rows, const Rows& k_rows,
                              const HeadRange& heads, const AttentionPattern& pattern) {
  check_dense_pattern(pattern, dense.name, q.device());
  const std::vector<BatchTasks> batches = plan(q_rows, k_rows, pattern, q.size(0), dense.name);
  const std::vector<HeadGroup> groups = head_groups(heads);
  const double scale = scale_of(pattern, q);
  if (covers_all(batches, groups, q, k)) {
    const AttentionOutput result = dense.forward(q, k, v, batches[0].tasks[0].causal, scale);
    return {result.out, result.lse.contiguous()};
  }
  AttentionOutput result{at::zeros(q.sizes(), q.options()),
                         at::full({q.size(0), q.size(2), q.size(1)}, -std::numeric_limits<double>::infinity(),
                                  q.options().dtype(at::toOpMathType(q.scalar_type())))};
  if (q.numel() == 0) return result;
  for_each_call(batches, groups, [&](const BatchTasks& rows, const DenseTask& t, const HeadGroup& g) {
    const auto of_q = [&](const at::Tensor& x) {
      return block(x, rows.begin, rows.count, t.q_offset, t.q_length, g.q_begin, g.q_count);
    };
    const auto of_k = [&](const at::Tensor& x) {
      return block(x, rows.begin, rows.count, t.k_offset, t.k_length, g.kv_begin, g.kv_count);
    };
    const AttentionOutput part = dense.forward(of_q(q), of_k(k), of_k(v), t.causal, scale);
    of_q(result.out).copy_(part.out);
    block(result.lse, rows.begin, rows.count, g.q_begin, g.q_count, t.q_offset, t.q_length).copy_(part.lse);
  });
  return result;
}

AttentionGrads dense_backward(const DenseAttention& dense, const at::Tensor& dout, const at::Tensor& q,
                              const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                              const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
                              const HeadRange& heads, const AttentionPattern& pattern) {
  check_dense_pattern(pattern, dense.name, q.device());
  const auto acc = q.options().dtype(at::toOpMathType(q.scalar_type()));
  const std::vector<BatchTasks> batches = plan(q_rows, k_rows, pattern, q.size(0), dense.name);
  const std::vector<HeadGroup> groups = head_groups(heads);
  const double scale = scale_of(pattern, q);
  if (covers_all(batches, groups, q, k)) {
    const AttentionGrads part =
        dense.backward(dout, q, k, v, out, lse.contiguous(), batches[0].tasks[0].causal, scale);
    const auto widen = [&](const at::Tensor& t) { return t.to(acc.dtype().toScalarType()); };
    return {widen(part.dq), widen(part.dk), widen(part.dv)};
  }
  AttentionGrads grads{at::zeros(q.sizes(), acc), at::zeros(k.sizes(), acc), at::zeros(v.sizes(), acc)};
  if (q.numel() == 0) return grads;
  for_each_call(batches, groups, [&](const BatchTasks& rows, const DenseTask& t, const HeadGroup& g) {
    const auto of_q = [&](const at::Tensor& x) {
      return block(x, rows.begin, rows.count, t.q_offset, t.q_length, g.q_begin, g.q_count);
    };
    const auto of_k = [&](const at::Tensor& x) {
      return block(x, rows.begin, rows.count, t.k_offset, t.k_length, g.kv_begin, g.kv_count);
    };
    const at::Tensor lse_part =
        block(lse, rows.begin, rows.count, g.q_begin, g.q_count, t.q_offset, t.q_length).contiguous();
    const AttentionGrads part =
        dense.backward(of_q(dout), of_q(q), of_k(k), of_k(v), of_q(out), lse_part, t.causal, scale);
    of_q(grads.dq).copy_(part.dq);
    // Several query runs may meet the same keys.
    of_k(grads.dk).add_(part.dk);
    of_k(grads.dv).add_(part.dv);
  });
  return grads;
}

void check_forward_results(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& out,
                           const at::Tensor& lse) {
  ITHACA_CHECK(dout.sizes() == q.sizes() && out.sizes() == q.sizes(), "dout ", dout.sizes(), ", out ",
               out.sizes(), ", q ", q.sizes());
  ITHACA_CHECK(dout.scalar_type() == q.scalar_type() && out.scalar_type() == q.scalar_type(),
               "dout and out must be of q's dtype ", q.scalar_type());
  ITHACA_CHECK(lse.sizes() == at::IntArrayRef({q.size(0), q.size(2), q.size(1)}) &&
                   lse.scalar_type() == at::toOpMathType(q.scalar_type()),
               "lse ", lse.sizes(), " ", lse.scalar_type(), ", expected [B, H, Sq] in opmath");
}

void check_total(const at::Tensor& total, at::IntArrayRef sizes, const at::Tensor& q, const char* what) {
  ITHACA_CHECK(total.sizes() == sizes && total.scalar_type() == at::toOpMathType(q.scalar_type()) &&
                   total.is_contiguous() && total.device() == q.device(),
               what, " ", total.sizes(), " ", total.scalar_type(), ", expected ", sizes,
               " in opmath, contiguous, on q's device");
}

// The shares of two blocks of keys in the softmax over both: exp(lse - logaddexp of both), 0 where neither
// sees anything.
void merge(AttentionOutput& total, const AttentionOutput& part) {
  const at::Tensor lse = at::logaddexp(total.lse, part.lse);
  const at::Tensor nothing = lse.eq(-std::numeric_limits<double>::infinity());
  const auto share = [&](const at::Tensor& of) {
    return at::exp(of - lse).masked_fill_(nothing, 0).transpose(1, 2).unsqueeze(-1);
  };
  total.out.mul_(share(total.lse)).add_(part.out * share(part.lse));
  total.lse.copy_(lse);
}

}  // namespace

AttentionBackend attention_backend_from_name(const std::string& name) {
  if (name == "auto") return AttentionBackend::kAuto;
  if (name == "naive") return AttentionBackend::kNaive;
  if (name == "ithaca") return AttentionBackend::kIthaca;
  if (name == "aten") return AttentionBackend::kAten;
  if (name == "flash") return AttentionBackend::kFlash;
  if (name == "cudnn") return AttentionBackend::kCudnn;
  throw UserError(
      ithaca::str("attention: \"", name, "\" is unknown; known are auto, naive, ithaca, aten, flash, cudnn"));
}

AttentionOutput attention_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                const AttentionPattern& pattern, AttentionBackend backend) {
  check(q, k, v, q_rows, k_rows, heads, pattern);
  const c10::NoGradGuard no_grad;
  backend = resolve(backend, q);
  if (backend == AttentionBackend::kNaive)
    return reference::attention_block(q, k, v, q_rows, k_rows, heads, pattern);
  if (backend == AttentionBackend::kIthaca)
    return attention::forward(q, k, v, q_rows, k_rows, heads, pattern);
  return dense_forward(dense_attention(backend, q), q, k, v, q_rows, k_rows, heads, pattern);
}

AttentionGrads attention_block_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                        const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                        const AttentionPattern& pattern, AttentionBackend backend) {
  check(q, k, v, q_rows, k_rows, heads, pattern);
  check_forward_results(dout, q, out, lse);
  const c10::NoGradGuard no_grad;
  backend = resolve(backend, q);
  if (backend == AttentionBackend::kNaive)
    return reference::attention_block_backward(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern);
  if (backend == AttentionBackend::kIthaca)
    return attention::backward(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern);
  return dense_backward(dense_attention(backend, q), dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern);
}

void attention_block_add(AttentionOutput& total, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                         const AttentionPattern& pattern, AttentionBackend backend) {
  check(q, k, v, q_rows, k_rows, heads, pattern);
  check_total(total.out, q.sizes(), q, "total.out");
  check_total(total.lse, {q.size(0), q.size(2), q.size(1)}, q, "total.lse");
  const c10::NoGradGuard no_grad;
  backend = resolve(backend, q);
  if (backend == AttentionBackend::kIthaca) {
    attention::forward_add(total, q, k, v, q_rows, k_rows, heads, pattern);
  } else if (backend == AttentionBackend::kNaive) {
    const auto widen = [&](const at::Tensor& t) { return t.to(total.out.scalar_type()); };
    merge(total, reference::attention_block(widen(q), widen(k), widen(v), q_rows, k_rows, heads, pattern));
  } else {
    merge(total, dense_forward(dense_attention(backend, q), q, k, v, q_rows, k_rows, heads, pattern));
  }
}

void attention_block_backward_add(AttentionGrads& total, const at::Tensor& dout, const at::Tensor& q,
                                  const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                                  const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
                                  const HeadRange& heads, const AttentionPattern& pattern,
                                  AttentionBackend backend) {
  check(q, k, v, q_rows, k_rows, heads, pattern);
  check_forward_results(dout, q, out, lse);
  check_total(total.dq, q.sizes(), q, "total.dq");
  check_total(total.dk, k.sizes(), q, "total.dk");
  check_total(total.dv, v.sizes(), q, "total.dv");
  const c10::NoGradGuard no_grad;
  if (resolve(backend, q) == AttentionBackend::kIthaca) {
    attention::backward_add(total, dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern);
    return;
  }
  const AttentionGrads part =
      attention_block_backward(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern, backend);
  total.dq.add_(part.dq);
  total.dk.add_(part.dk);
  total.dv.add_(part.dv);
}

}  // namespace ithaca
