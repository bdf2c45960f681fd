// Checks and the choice of backend.
// Shape letters: B batch, Sq and Sk rows at hand, H query heads, K kv heads, D head size.
#include "ithaca/kernels/attention_block.h"

#include <ATen/OpMathType.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "ithaca/base/error.h"
#include "ithaca/kernels/attention_aten.h"
#include "ithaca/kernels/attention_ithaca.h"
#include "ithaca/kernels/cpu_choice.h"
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
void check_dense_pattern(const AttentionPattern& pattern, const DenseAttention& kernel,
                         const at::Device& device) {
  const bool window = pattern.window > 0 && !kernel.bands;
  const char* setting = window                          ? "sliding_window"
                        : !pattern.alibi_slopes.empty() ? "position_embedding: alibi"
                        : pattern.sparse.enabled()      ? "sparse_attention"
                                                        : nullptr;
  if (setting)
    throw UserError(ithaca::str("attention: ", kernel.name, " cannot do ", setting, ". Use attention: ",
                                device.is_cpu() ? "auto, ithaca or naive"
                                : window        ? "auto, flash or naive"
                                                : "naive",
                                ", or train without ", setting));
}

// cuDNN takes head sizes up to 128 on every GPU it supports and no window; FlashAttention both.
AttentionBackend resolve(AttentionBackend backend, const at::Tensor& q, const AttentionPattern& pattern) {
  if (q.is_cpu() && backend == AttentionBackend::kAuto)
    return auto_on_cpu(q.scalar_type(), pattern, cpu_choice());
  if (q.is_cpu() && backend == AttentionBackend::kFlash) return AttentionBackend::kIthaca;
  if (backend == AttentionBackend::kIthaca && !q.is_cpu())
    throw UserError(ithaca::str("attention: ithaca is a CPU kernel, the tensors are on ", q.device(),
                                ". Use auto, cudnn, flash or naive"));
  if (backend != AttentionBackend::kAuto) return backend;
  return q.size(-1) <= 128 && pattern.window == 0 ? AttentionBackend::kCudnn : AttentionBackend::kFlash;
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

DenseAttention kernel_of(AttentionBackend backend, const at::Tensor& q) {
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

DenseAttention dense_kernel(AttentionBackend backend, const at::Tensor& q, const AttentionPattern& pattern) {
  const DenseAttention kernel = kernel_of(backend, q);
  check_dense_pattern(pattern, kernel, q.device());
  return kernel;
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

}  // namespace

AttentionBackend auto_on_cpu(at::ScalarType dtype, const AttentionPattern& pattern, const CpuChoice& cpu) {
  const bool plain = pattern.window == 0 && pattern.alibi_slopes.empty() && !pattern.sparse.enabled();
  return cpu.aten_bf16_attention && dtype == at::kBFloat16 && plain ? AttentionBackend::kAten
                                                                    : AttentionBackend::kIthaca;
}

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
  backend = resolve(backend, q, pattern);
  if (backend == AttentionBackend::kNaive)
    return reference::attention_block(q, k, v, q_rows, k_rows, heads, pattern);
  if (backend == AttentionBackend::kIthaca)
    return attention::forward(q, k, v, q_rows, k_rows, heads, pattern, cpu_choice().tier);
  return dense_forward(dense_kernel(backend, q, pattern), q, k, v, q_rows, k_rows, heads, pattern);
}

AttentionGrads attention_block_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                        const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                                        const AttentionPattern& pattern, AttentionBackend backend) {
  check(q, k, v, q_rows, k_rows, heads, pattern);
  check_forward_results(dout, q, out, lse);
  const c10::NoGradGuard no_grad;
  backend = resolve(backend, q, pattern);
  if (backend == AttentionBackend::kNaive)
    return reference::attention_block_backward(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern);
  if (backend == AttentionBackend::kIthaca)
    return attention::backward(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern, cpu_choice().tier);
  const auto zeros = [&](const at::Tensor& t) {
    return at::zeros(t.sizes(), t.options().dtype(at::toOpMathType(t.scalar_type())));
  };
  AttentionGrads total = {zeros(q), zeros(k), zeros(v)};
  dense_backward_add(dense_kernel(backend, q, pattern), total, dout, q, k, v, out, lse, q_rows, k_rows, heads,
                     pattern);
  return total;
}

void attention_block_add(AttentionOutput& total, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                         const AttentionPattern& pattern, AttentionBackend backend) {
  check(q, k, v, q_rows, k_rows, heads, pattern);
  check_total(total.out, q.sizes(), q, "total.out");
  check_total(total.lse, {q.size(0), q.size(2), q.size(1)}, q, "total.lse");
  const c10::NoGradGuard no_grad;
  backend = resolve(backend, q, pattern);
  if (backend == AttentionBackend::kIthaca) {
    attention::forward_add(total, q, k, v, q_rows, k_rows, heads, pattern, cpu_choice().tier);
  } else if (backend == AttentionBackend::kNaive) {
    const auto widen = [&](const at::Tensor& t) { return t.to(total.out.scalar_type()); };
    merge(total, reference::attention_block(widen(q), widen(k), widen(v), q_rows, k_rows, heads, pattern));
  } else {
    dense_forward_add(dense_kernel(backend, q, pattern), total, q, k, v, q_rows, k_rows, heads, pattern);
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
  backend = resolve(backend, q, pattern);
  if (backend == AttentionBackend::kIthaca) {
    attention::backward_add(total, dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern,
                            cpu_choice().tier);
  } else if (backend == AttentionBackend::kNaive) {
    const AttentionGrads part =
        reference::attention_block_backward(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern);
    total.dq.add_(part.dq);
    total.dk.add_(part.dk);
    total.dv.add_(part.dv);
  } else {
    dense_backward_add(dense_kernel(backend, q, pattern), total, dout, q, k, v, out, lse, q_rows, k_rows,
                       heads, pattern);
  }
}

}  // namespace ithaca
