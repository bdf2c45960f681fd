#include "ithaca/parallel/sequence/gather_kv.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include "ithaca/base/error.h"
#include "ithaca/comm/communicator.h"
#include "ithaca/nn/parameter.h"
#include "ithaca/parallel/sequence/exchange.h"

namespace ithaca {
namespace {

at::Tensor batch_rows(const at::Tensor& t, const BatchSlice& slice) {
  return t.narrow(0, slice.begin, slice.count);
}

// What `rank` needs of `owner`'s rows, by slice; null: nothing.
const std::vector<RowSet>* needs_of(const BatchPlan& plan, int owner, int rank) {
  for (const Visit& visit : plan.up[owner])
    if (visit.rank == rank) return &visit.needs;
  return nullptr;
}

// The keys at hand in one slice: of the ranks in order, of this rank all, of the others what is needed.
struct Keys {
  at::Tensor k, v;              // [B, n, K, D]
  std::vector<int64_t> begins;  // by ring rank, where its rows start
  std::vector<int64_t> counts;
  Rows rows;
};

class Gatherer {
 public:
  Gatherer(const BatchPlan& plan, Communicator& ring) : plan_(plan), ring_(ring) {}

  std::vector<Keys> layout() const {
    std::vector<Keys> all;
    for (std::size_t s = 0; s < plan_.slices.size(); ++s) {
      Keys keys;
      int64_t total = 0;
      for (int owner = 0; owner < ring_.size(); ++owner) {
        const RowSet rows = rows_of(owner, ring_.rank(), s);
        keys.begins.push_back(total);
        keys.counts.push_back(count_of(rows));
        total += keys.counts.back();
        for (const Share run : rows) keys.rows.push_back({run.begin, run.count});
      }
      all.push_back(std::move(keys));
    }
    return all;
  }

  std::vector<Keys> gather(const at::Tensor& k, const at::Tensor& v) {
    std::vector<Keys> all = layout();
    Exchange exchange(ring_);
    const at::Tensor nothing =
        k.narrow(1, 0, 0);  // a rank without rows, and without need of others', has a device all the same
    exchange.send(ring_.rank(), nothing);
    exchange.receive(ring_.rank(), at::empty_like(nothing));
    for (std::size_t s = 0; s < all.size(); ++s) {
      std::vector<int64_t> sizes = k.sizes().vec();
      sizes[0] = plan_.slices[s].count;
      sizes[1] = all[s].begins.back() + all[s].counts.back();
      all[s].k = at::empty(sizes, k.options());
      all[s].v = at::empty(sizes, v.options());
      for (int j = 0; j < ring_.size(); ++j) {
        for_each_common(plan_.slices[s].rows[ring_.rank()], rows_of(ring_.rank(), j, s),
                        [&](int64_t from, int64_t, int64_t count) {
                          exchange.send(j, batch_rows(k, plan_.slices[s]).narrow(1, from, count));
                          exchange.send(j, batch_rows(v, plan_.slices[s]).narrow(1, from, count));
                        });
        int64_t row = all[s].begins[j];
        for (const Share run : rows_of(j, ring_.rank(), s)) {
          exchange.receive(j, all[s].k.narrow(1, row, run.count));
          exchange.receive(j, all[s].v.narrow(1, row, run.count));
          row += run.count;
        }
      }
    }
    exchange.run();
    return all;
  }

  // dk, dv of the keys at hand -> added to the owners' dk, dv [B, S, K, D], in rank order.
  void send_home(const std::vector<Keys>& grads, at::Tensor& dk, at::Tensor& dv) {
    struct Part {
      at::Tensor to, from;
    };
    std::vector<Part> parts;
    Exchange exchange(ring_);
    for (int j = 0; j < ring_.size(); ++j)
      for (std::size_t s = 0; s < grads.size(); ++s) {
        exchange.send(j, grads[s].k.narrow(1, grads[s].begins[j], grads[s].counts[j]));
        exchange.send(j, grads[s].v.narrow(1, grads[s].begins[j], grads[s].counts[j]));
        const RowSet rows = rows_of(ring_.rank(), j, s);
        std::vector<int64_t> sizes = grads[s].k.sizes().vec();
        sizes[1] = count_of(rows);
        const at::Tensor from_k = at::empty(sizes, dk.options()), from_v = at::empty(sizes, dv.options());
        exchange.receive(j, from_k);
        exchange.receive(j, from_v);
        for_each_common(
            plan_.slices[s].rows[ring_.rank()], rows, [&](int64_t to, int64_t from, int64_t count) {
              parts.push_back(
                  {batch_rows(dk, plan_.slices[s]).narrow(1, to, count), from_k.narrow(1, from, count)});
              parts.push_back(
                  {batch_rows(dv, plan_.slices[s]).narrow(1, to, count), from_v.narrow(1, from, count)});
            });
      }
    exchange.run();
    for (Part& part : parts) part.to.add_(part.from);
  }

 private:
  RowSet rows_of(int owner, int rank, std::size_t slice) const {
    if (owner == rank) return plan_.slices[slice].rows[owner];
    const std::vector<RowSet>* needs = needs_of(plan_, owner, rank);
    return needs ? (*needs)[slice] : RowSet();
  }

  const BatchPlan& plan_;
  Communicator& ring_;
};

}  // namespace

AttentionOutput gather_kv_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const HeadRange& heads, const BatchPlan& plan, Communicator& ring,
                                  AttentionBackend backend) {
  const std::vector<Keys> keys = Gatherer(plan, ring).gather(k, v);
  AttentionOutput total = {
      at::empty(q.sizes(), q.options()),
      at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(opmath(q.scalar_type())))};
  for (std::size_t s = 0; s < keys.size(); ++s) {
    const BatchSlice& slice = plan.slices[s];
    AttentionOutput part =
        attention_block(batch_rows(q, slice), keys[s].k, keys[s].v, to_rows(slice.rows[ring.rank()]),
                        keys[s].rows, heads, slice.pattern, backend);
    if (keys.size() == 1) return part;
    batch_rows(total.out, slice).copy_(part.out);
    batch_rows(total.lse, slice).copy_(part.lse);
  }
  return total;
}

AttentionGrads gather_kv_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                  const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                                  const HeadRange& heads, const BatchPlan& plan, Communicator& ring,
                                  AttentionBackend backend) {
  Gatherer gatherer(plan, ring);
  std::vector<Keys> keys = gatherer.gather(k, v);
  const auto zeros = [&](const at::Tensor& t) {
    return at::zeros(t.sizes(), t.options().dtype(opmath(t.scalar_type())));
  };
  AttentionGrads total = {zeros(q), zeros(k), zeros(v)};
  for (std::size_t s = 0; s < keys.size(); ++s) {
    const BatchSlice& slice = plan.slices[s];
    AttentionGrads part = {batch_rows(total.dq, slice), zeros(keys[s].k), zeros(keys[s].v)};
    attention_block_backward_add(part, batch_rows(dout, slice), batch_rows(q, slice), keys[s].k, keys[s].v,
                                 batch_rows(out, slice), batch_rows(lse, slice),
                                 to_rows(slice.rows[ring.rank()]), keys[s].rows, heads, slice.pattern,
                                 backend);
    keys[s].k = part.dk;
    keys[s].v = part.dv;
  }
  gatherer.send_home(keys, total.dk, total.dv);
  return total;
}

}  // namespace ithaca
