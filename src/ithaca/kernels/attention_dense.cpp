#include "ithaca/kernels/attention_dense.h"

#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace ithaca {
namespace {

// Batch rows [begin, begin + count) that share one list of tasks.
struct BatchTasks {
  int64_t begin = 0, count = 0;
  std::vector<DenseTask> tasks;
};

// What one task of one head group is of q, k, v: the batch rows and rows that a call reads and writes.
struct Part {
  int64_t batch, batches;
  DenseTask task;
  HeadGroup heads;

  at::Tensor of_q(const at::Tensor& t) const {
    return t.narrow(0, batch, batches)
        .narrow(1, task.q_offset, task.q_length)
        .narrow(2, heads.q_begin, heads.q_count);
  }
  at::Tensor of_k(const at::Tensor& t) const {
    return t.narrow(0, batch, batches)
        .narrow(1, task.k_offset, task.k_length)
        .narrow(2, heads.kv_begin, heads.kv_count);
  }
  at::Tensor of_lse(const at::Tensor& t) const {
    return t.narrow(0, batch, batches)
        .narrow(1, heads.q_begin, heads.q_count)
        .narrow(2, task.q_offset, task.q_length);
  }
};

class Calls {
 public:
  Calls(const DenseAttention& kernel, const at::Tensor& q, const at::Tensor& k, const Rows& q_rows,
        const Rows& k_rows, const HeadRange& heads, const AttentionPattern& pattern)
      : scale_(pattern.scale != 0 ? pattern.scale : 1 / std::sqrt(static_cast<double>(q.size(-1)))),
        groups_(head_groups(heads)) {
    if (q.numel() == 0 || k.numel() == 0) return;
    const auto tasks = [&](const std::vector<int64_t>& bounds) {
      return dense_tasks(document_rows(q_rows, k_rows, bounds), pattern.causal, pattern.window, kernel.bands);
    };
    if (pattern.documents.empty()) {
      rows_.push_back({0, q.size(0), tasks({})});
    } else {
      for (int64_t b = 0; b < q.size(0); ++b) {
        std::vector<DenseTask> of_row = tasks(pattern.documents[b]);
        if (!rows_.empty() && rows_.back().tasks == of_row)
          ++rows_.back().count;
        else
          rows_.push_back({b, 1, std::move(of_row)});
      }
    }
    for (const BatchTasks& row : rows_) count_ += row.tasks.size();
    merges_ = std::any_of(rows_.begin(), rows_.end(),
                          [](const auto& row) { return queries_meet_twice(row.tasks); });
    packed_ = kernel.packed_forward && !merges_ && count_ > 1 && same_bands();
  }

  double scale() const { return scale_; }
  const std::vector<HeadGroup>& groups() const { return groups_; }
  // Are the results of some query in more than one call?
  bool merges() const { return merges_; }
  // May all tasks of a head group be one call of packed_forward?
  bool packed() const { return packed_; }
  Band packed_band() const { return first_task().band; }
  // One call whose results are the answer: nothing to fill, nothing to copy.
  bool is_one_call(const at::Tensor& q, const at::Tensor& k) const {
    return count_ == 1 && groups_.size() == 1 && rows_[0].count == q.size(0) &&
           first_task().q_length == q.size(1) && first_task().k_length == k.size(1) &&
           groups_[0].kv_count == k.size(2);
  }
  const DenseTask& first_task() const {
    return std::find_if(rows_.begin(), rows_.end(), [](const auto& row) { return !row.tasks.empty(); })
        ->tasks[0];
  }

  // Calls f(Part) for each task of each head group.
  template <class F>
  void for_each(F f) const {
    for (const HeadGroup& heads : groups_)
      for (const BatchTasks& row : rows_)
        for (const DenseTask& task : row.tasks) f(Part{row.begin, row.count, task, heads});
  }
  // The same for one head group, one batch row at a time.
  template <class F>
  void for_each_document(const HeadGroup& heads, F f) const {
    for (const BatchTasks& row : rows_)
      for (int64_t b = row.begin; b < row.begin + row.count; ++b)
        for (const DenseTask& task : row.tasks) f(Part{b, 1, task, heads});
  }

 private:
  bool same_bands() const {
    const Band band = first_task().band;
    return std::all_of(rows_.begin(), rows_.end(), [&](const BatchTasks& row) {
      return std::all_of(row.tasks.begin(), row.tasks.end(), [&](const auto& t) { return t.band == band; });
    });
  }

  double scale_;
  std::vector<HeadGroup> groups_;
  std::vector<BatchTasks> rows_;
  std::size_t count_ = 0;
  bool merges_ = false, packed_ = false;
};

// The rows of all documents of a head group, end to end. Documents that are neighbours in the tensors are copied as
// one part.
class Packed {
 public:
  Packed(const Calls& calls, const HeadGroup& heads) {
    calls.for_each_document(heads, [&](const Part& document) {
      const DenseTask& task = document.task;
      Part* last = parts_.empty() ? nullptr : &parts_.back();
      if (last && last->batch == document.batch &&
          last->task.q_offset + last->task.q_length == task.q_offset &&
          last->task.k_offset + last->task.k_length == task.k_offset) {
        last->task.q_length += task.q_length;
        last->task.k_length += task.k_length;
      } else {
        parts_.push_back(document);
      }
      bounds_.add(task.q_length, task.k_length);
    });
  }
  const PackedBounds& bounds() const { return bounds_; }

  at::Tensor of_q(const at::Tensor& t) const { return join(t, &Part::of_q, 0); }
  at::Tensor of_k(const at::Tensor& t) const { return join(t, &Part::of_k, 0); }
  at::Tensor of_lse(const at::Tensor& t) const { return join(t, &Part::of_lse, 1); }

  // Calls f(part, q_rows, k_rows) for each part: what cuts its rows of queries or keys, along a dim, out of a packed
  // tensor.
  template <class F>
  void for_each(F f) const {
    int64_t q = 0, k = 0;
    for (const Part& part : parts_) {
      const int64_t q_length = part.task.q_length, k_length = part.task.k_length;
      f(
          part, [=](const at::Tensor& t, int64_t dim = 0) { return t.narrow(dim, q, q_length).unsqueeze(0); },
          [=](const at::Tensor& t) { return t.narrow(0, k, k_length).unsqueeze(0); });
      q += q_length;
      k += k_length;
    }
  }

 private:
  at::Tensor join(const at::Tensor& t, at::Tensor (Part::*cut)(const at::Tensor&) const, int64_t dim) const {
    std::vector<at::Tensor> pieces;
    for (const Part& part : parts_) pieces.push_back((part.*cut)(t)[0]);
    return pieces.size() == 1 ? pieces[0].contiguous() : at::cat(pieces, dim);
  }

  std::vector<Part> parts_;
  PackedBounds bounds_;
};

// Calls store(part, its out and lse) for every result.
template <class F>
void forward_parts(const DenseAttention& kernel, const Calls& calls, const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v, F store) {
  if (!calls.packed()) {
    calls.for_each([&](const Part& part) {
      store(part, kernel.forward(part.of_q(q), part.of_k(k), part.of_k(v), part.task.band, calls.scale()));
    });
    return;
  }
  for (const HeadGroup& heads : calls.groups()) {
    const Packed packed(calls, heads);
    const AttentionOutput all = kernel.packed_forward(packed.of_q(q), packed.of_k(k), packed.of_k(v),
                                                      packed.bounds(), calls.packed_band(), calls.scale());
    packed.for_each([&](const Part& part, const auto& q_rows, const auto&) {
      store(part, AttentionOutput{q_rows(all.out), q_rows(all.lse, 1)});
    });
  }
}

}  // namespace

AttentionOutput dense_forward(const DenseAttention& kernel, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const Rows& q_rows, const Rows& k_rows,
                              const HeadRange& heads, const AttentionPattern& pattern) {
  const Calls calls(kernel, q, k, q_rows, k_rows, heads, pattern);
  if (calls.is_one_call(q, k)) {
    const AttentionOutput result = kernel.forward(q, k, v, calls.first_task().band, calls.scale());
    return {result.out, result.lse.contiguous()};
  }
  const at::TensorOptions wide = q.options().dtype(at::toOpMathType(q.scalar_type()));
  AttentionOutput result{
      at::zeros(q.sizes(), calls.merges() ? wide : q.options()),
      at::full({q.size(0), q.size(2), q.size(1)}, -std::numeric_limits<double>::infinity(), wide)};
  forward_parts(kernel, calls, q, k, v, [&](const Part& part, const AttentionOutput& of) {
    const AttentionOutput to{part.of_q(result.out), part.of_lse(result.lse)};
    if (calls.merges()) return merge(to, of);
    to.out.copy_(of.out);
    to.lse.copy_(of.lse);
  });
  return {result.out.to(q.scalar_type()), result.lse};
}

void dense_forward_add(const DenseAttention& kernel, AttentionOutput& total, const at::Tensor& q,
                       const at::Tensor& k, const at::Tensor& v, const Rows& q_rows, const Rows& k_rows,
                       const HeadRange& heads, const AttentionPattern& pattern) {
  const Calls calls(kernel, q, k, q_rows, k_rows, heads, pattern);
  forward_parts(kernel, calls, q, k, v, [&](const Part& part, const AttentionOutput& of) {
    merge({part.of_q(total.out), part.of_lse(total.lse)}, of);
  });
}

void dense_backward_add(const DenseAttention& kernel, AttentionGrads& total, const at::Tensor& dout,
                        const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                        const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                        const AttentionPattern& pattern) {
  const Calls calls(kernel, q, k, q_rows, k_rows, heads, pattern);
  const auto add = [&](const Part& part, const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv) {
    part.of_q(total.dq).add_(dq);
    part.of_k(total.dk).add_(dk);
    part.of_k(total.dv).add_(dv);
  };
  if (!calls.packed()) {
    calls.for_each([&](const Part& part) {
      const AttentionGrads grads =
          kernel.backward(part.of_q(dout), part.of_q(q), part.of_k(k), part.of_k(v), part.of_q(out),
                          part.of_lse(lse).contiguous(), part.task.band, calls.scale());
      add(part, grads.dq, grads.dk, grads.dv);
    });
    return;
  }
  for (const HeadGroup& of_group : calls.groups()) {
    const Packed packed(calls, of_group);
    const AttentionGrads all = kernel.packed_backward(packed.of_q(dout), packed.of_q(q), packed.of_k(k),
                                                      packed.of_k(v), packed.of_q(out), packed.of_lse(lse),
                                                      packed.bounds(), calls.packed_band(), calls.scale());
    packed.for_each([&](const Part& part, const auto& q_rows, const auto& k_rows) {
      add(part, q_rows(all.dq), k_rows(all.dk), k_rows(all.dv));
    });
  }
}

void merge(const AttentionOutput& total, const AttentionOutput& part) {
  // The shares of both in the softmax over all keys so far: exp(lse - logaddexp of both), 0 where neither sees
  // anything.
  const at::Tensor lse = at::logaddexp(total.lse, part.lse);
  const at::Tensor nothing = lse.eq(-std::numeric_limits<double>::infinity());
  const auto share = [&](const at::Tensor& of) {
    return at::exp(of - lse).masked_fill_(nothing, 0).transpose(1, 2).unsqueeze(-1);
  };
  total.out.mul_(share(total.lse)).add_(part.out * share(part.lse));
  total.lse.copy_(lse);
}

}  // namespace ithaca
