// B batch, S rows of this rank, h query heads, K kv heads at hand, D head size.
#include "ithaca/parallel/sequence/ring.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

#include "ithaca/base/error.h"
#include "ithaca/comm/communicator.h"
#include "ithaca/nn/parameter.h"
#include "ithaca/parallel/sequence/row_block.h"

namespace ithaca {
namespace {

constexpr int kOwner = -1;
constexpr int kAtTheEnd = std::numeric_limits<int>::max();

int key_value_tag(int owner) {
  return 2 * owner;
}
int sum_tag(int owner) {
  return 2 * owner + 1;
}

// Messages that have left, with their buffers. A rank waits, at its step t, only for those that their receiver
// takes before its own step t: so steps follow one another over all ranks, and no two wait for each other.
class Outbox {
 public:
  explicit Outbox(Communicator& ring) : ring_(ring) {}
  void send(const at::Tensor& buffer, int to, int tag, int receiver_step) {
    if (buffer.numel() > 0) letters_.push_back({ring_.async_send(buffer, to, tag), buffer, receiver_step});
  }
  void settle(int step) {
    std::erase_if(letters_, [step](Letter& letter) {
      if (letter.receiver_step >= step) return false;
      letter.work->wait();
      return true;
    });
  }
  void finish() {
    for (Letter& letter : letters_) letter.work->wait();
    letters_.clear();
  }

 private:
  struct Letter {
    WorkPtr work;
    at::Tensor buffer;
    int receiver_step;
  };
  Communicator& ring_;
  std::vector<Letter> letters_;
};

// A block on its way to this rank.
struct Arrival {
  RowBlock block;
  WorkPtr work;
  void wait() {
    if (work) std::exchange(work, nullptr)->wait();
  }
};

// One of this rank's steps: the visit `index` of `owner`'s block.
struct Step {
  int owner, index;
};

class Ring {
 public:
  Ring(const BatchPlan& plan, const RingRoutes& routes, Communicator& ring)
      : plan_(plan), routes_(routes), ring_(ring), outbox_(ring) {
    for (int owner = 0; owner < ring.size(); ++owner)
      for (std::size_t i = 0; i < routes[owner].size(); ++i)
        if (routes[owner][i].rank == ring.rank()) steps_.push_back({owner, static_cast<int>(i)});
    std::sort(steps_.begin(), steps_.end(), [&](Step a, Step b) { return visit(a).step < visit(b).step; });
  }

  const std::vector<Step>& steps() const { return steps_; }
  const Visit& visit(Step step) const { return routes_[step.owner][step.index]; }
  Outbox& outbox() { return outbox_; }

  void send_own(const at::Tensor& k, const at::Tensor& v) {
    for_each_child({ring_.rank(), kOwner}, [&](const Visit& child) {
      RowBlock block(plan_, child.carried, k, k.scalar_type());
      block.copy_from(plan_, ring_.rank(), k, v);
      outbox_.send(block.buffer(), child.rank, key_value_tag(ring_.rank()), child.step);
    });
  }

  // Posts the receives of the steps whose block is on its way by now: the next one's (`next`, an index of
  // steps()), and those that a rank sends at `step` or before, which are for later where an inner ring lies
  // between.
  void expect(std::size_t next, int step, const at::Tensor& k) {
    arrivals_.resize(steps_.size());
    for (std::size_t i = next; i < steps_.size(); ++i)
      if (!arrivals_[i].block.buffer().defined() && (i == next || sent_at(steps_[i]) <= step))
        arrivals_[i] = post({plan_, visit(steps_[i]).carried, k, k.scalar_type()}, sender_of(steps_[i]),
                            key_value_tag(steps_[i].owner));
  }
  RowBlock take(std::size_t i) {
    arrivals_[i].wait();
    return std::move(arrivals_[i].block);
  }

  void forward(Step step, RowBlock& block, const at::Tensor& k) {
    for_each_child(step, [&](const Visit& child) {
      if (child.carried == block.rows())
        return outbox_.send(block.buffer(), child.rank, key_value_tag(step.owner), child.step);
      RowBlock part(plan_, child.carried, k, k.scalar_type());
      part.copy_from(block);
      outbox_.send(part.buffer(), child.rank, key_value_tag(step.owner), child.step);
    });
  }

  // dK and dV of `owner`'s block, summed over the visits up to `index`, from the rank of that one.
  Arrival expect_sums(int owner, int index, const at::Tensor& k, at::ScalarType dtype) {
    const Visit& from = routes_[owner][index];
    return post({plan_, from.summed, k, dtype}, from.rank, sum_tag(owner));
  }

  void send_sums(Step step, RowBlock& sums) {
    const std::vector<Visit>& visits = routes_[step.owner];
    const bool last = step.index + 1 == static_cast<int>(visits.size());
    outbox_.send(sums.buffer(), last ? step.owner : visits[step.index + 1].rank, sum_tag(step.owner),
                 last ? kAtTheEnd : visits[step.index + 1].step);
  }

 private:
  Arrival post(RowBlock block, int from, int tag) {
    Arrival arrival{std::move(block), nullptr};
    if (arrival.block.buffer().numel() > 0)
      arrival.work = ring_.async_recv(arrival.block.buffer(), from, tag);
    return arrival;
  }
  int sender_of(Step step) const {
    const int parent = visit(step).parent;
    return parent == kOwner ? step.owner : routes_[step.owner][parent].rank;
  }
  int sent_at(Step step) const {
    const int parent = visit(step).parent;
    return parent == kOwner ? 0 : routes_[step.owner][parent].step;
  }
  template <class F>
  void for_each_child(Step step, F f) {
    for (const Visit& visit : routes_[step.owner])
      if (visit.parent == step.index) f(visit);
  }

  const BatchPlan& plan_;
  const RingRoutes& routes_;
  Communicator& ring_;
  Outbox outbox_;
  std::vector<Step> steps_;
  std::vector<Arrival> arrivals_;  // by step
};

// Bytes of one row of K and V, of elements of this size.
int64_t row_bytes(const at::Tensor& k, at::ScalarType dtype) {
  return 2 * k.size(2) * k.size(3) * static_cast<int64_t>(c10::elementSize(dtype));
}

at::Tensor batch_rows(const at::Tensor& t, const BatchSlice& slice) {
  return t.narrow(0, slice.begin, slice.count);
}

}  // namespace

AttentionOutput ring_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const HeadRange& heads, const BatchPlan& plan, Communicator& ring,
                             AttentionBackend backend) {
  Ring blocks(plan, plan.routes(1, 0), ring);
  const at::TensorOptions options = q.options().dtype(opmath(q.scalar_type()));
  AttentionOutput total = {
      at::zeros(q.sizes(), options),
      at::full({q.size(0), q.size(2), q.size(1)}, -std::numeric_limits<double>::infinity(), options)};
  const auto add = [&](std::size_t s, const at::Tensor& block_k, const at::Tensor& block_v,
                       const RowSet& rows) {
    const BatchSlice& slice = plan.slices[s];
    AttentionOutput part = {batch_rows(total.out, slice), batch_rows(total.lse, slice)};
    attention_block_add(part, batch_rows(q, slice), block_k, block_v, to_rows(slice.rows[ring.rank()]),
                        to_rows(rows), heads, slice.pattern, backend);
  };

  blocks.send_own(k, v);
  blocks.expect(0, 0, k);
  for (std::size_t s = 0; s < plan.slices.size(); ++s)
    add(s, batch_rows(k, plan.slices[s]), batch_rows(v, plan.slices[s]), plan.slices[s].rows[ring.rank()]);
  for (std::size_t i = 0; i < blocks.steps().size(); ++i) {
    const Step step = blocks.steps()[i];
    RowBlock block = blocks.take(i);
    blocks.expect(i + 1, blocks.visit(step).step, k);
    blocks.forward(step, block, k);
    blocks.outbox().settle(blocks.visit(step).step);
    for (std::size_t s = 0; s < plan.slices.size(); ++s)
      add(s, block.first(s), block.second(s), block.rows()[s]);
  }
  blocks.outbox().finish();
  return {total.out.to(q.scalar_type()), total.lse};
}

AttentionGrads ring_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                             const HeadRange& heads, const BatchPlan& plan, Communicator& ring,
                             AttentionBackend backend) {
  const at::ScalarType wide = opmath(q.scalar_type());
  const RingRoutes& routes = plan.routes(row_bytes(k, k.scalar_type()), row_bytes(k, wide));
  Ring blocks(plan, routes, ring);
  const auto zeros = [&](const at::Tensor& t) { return at::zeros(t.sizes(), t.options().dtype(wide)); };
  AttentionGrads total = {zeros(q), zeros(k), zeros(v)};
  const auto add = [&](std::size_t s, const at::Tensor& block_k, const at::Tensor& block_v,
                       const RowSet& rows, at::Tensor dk, at::Tensor dv) {
    const BatchSlice& slice = plan.slices[s];
    AttentionGrads part = {batch_rows(total.dq, slice), std::move(dk), std::move(dv)};
    attention_block_backward_add(part, batch_rows(dout, slice), batch_rows(q, slice), block_k, block_v,
                                 batch_rows(out, slice), batch_rows(lse, slice),
                                 to_rows(slice.rows[ring.rank()]), to_rows(rows), heads, slice.pattern,
                                 backend);
  };

  blocks.send_own(k, v);
  blocks.expect(0, 0, k);
  Arrival home;
  if (const std::vector<Visit>& own = routes[ring.rank()]; !own.empty())
    home = blocks.expect_sums(ring.rank(), static_cast<int>(own.size()) - 1, k, wide);
  for (std::size_t s = 0; s < plan.slices.size(); ++s) {
    const BatchSlice& slice = plan.slices[s];
    add(s, batch_rows(k, slice), batch_rows(v, slice), slice.rows[ring.rank()], batch_rows(total.dk, slice),
        batch_rows(total.dv, slice));
  }
  for (std::size_t i = 0; i < blocks.steps().size(); ++i) {
    const Step step = blocks.steps()[i];
    const Visit& visit = blocks.visit(step);
    RowBlock block = blocks.take(i);
    blocks.expect(i + 1, visit.step, k);
    Arrival before;
    if (step.index > 0) before = blocks.expect_sums(step.owner, step.index - 1, k, wide);
    blocks.forward(step, block, k);
    blocks.outbox().settle(visit.step);

    RowBlock mine(plan, visit.carried, k, wide);
    mine.buffer().zero_();
    for (std::size_t s = 0; s < plan.slices.size(); ++s)
      add(s, block.first(s), block.second(s), block.rows()[s], mine.first(s), mine.second(s));
    before.wait();
    if (visit.summed != visit.carried) {  // rows that others behind need, or that only those before needed
      RowBlock sums(plan, visit.summed, k, wide);
      sums.buffer().zero_();
      sums.copy_from(mine);
      mine = std::move(sums);
    }
    if (step.index > 0) mine.add_from(before.block);
    blocks.send_sums(step, mine);
  }
  if (home.block.buffer().defined()) {
    home.wait();
    home.block.add_to(plan, ring.rank(), total.dk, total.dv);
  }
  blocks.outbox().finish();
  return total;
}

}  // namespace ithaca
