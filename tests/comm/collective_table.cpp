#include "tests/comm/collective_table.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/sin.h>

#include <stdexcept>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using Counts = std::vector<int64_t>;

// What `rank` brings to call `salt`: reals in (-2, 2) with all digits used, integers 0 to 6, booleans.
at::Tensor values(int rank, int salt, const Counts& sizes, at::ScalarType dtype) {
  int64_t elements = 1;
  for (const int64_t size : sizes) elements *= size;
  const at::Tensor index = at::arange(elements, at::kDouble).add_(1 + 1000.0 * rank + 77.0 * salt);
  if (c10::isFloatingType(dtype)) return at::sin(index.mul(1.7)).mul_(2).view(sizes).to(dtype);
  return index.remainder(dtype == at::kBool ? 2 : 7).view(sizes).to(dtype);
}

at::Tensor sum_in_order(const std::vector<at::Tensor>& inputs) {
  const at::ScalarType dtype = inputs[0].scalar_type();
  const bool sixteen = dtype == at::kHalf || dtype == at::kBFloat16;
  at::Tensor sum = sixteen ? inputs[0].to(at::kFloat) : inputs[0].clone();
  for (std::size_t r = 1; r < inputs.size(); ++r)
    sum = dtype == at::kBool ? sum.logical_or(inputs[r]) : sum + inputs[r].to(sum.scalar_type());
  return sum.to(dtype);
}

at::Tensor max_of(const std::vector<at::Tensor>& inputs) {
  at::Tensor result = inputs[0];
  for (const at::Tensor& input : inputs) result = at::maximum(result, input);
  return result;
}

class Table {
 public:
  Table(Communicator& world, at::ScalarType dtype)
      : world_(world), dtype_(dtype), n_(world.size()), rank_(world.rank()) {}

  TableResult run() {
    for (const int64_t elements : {int64_t{1}, int64_t{5}, int64_t{40009}, int64_t{0}}) {
      for (int root = 0; root < n_; ++root) broadcast(root, elements);
      all_reduce(ReduceOp::kSum, elements);
      all_reduce(ReduceOp::kMax, elements);
    }
    const auto n = static_cast<std::size_t>(n_);
    Counts rising, big, one_has_all(n, 0);
    for (int r = 0; r < n_; ++r) {
      rising.push_back(r);
      big.push_back(9001 + 17 * r);
    }
    one_has_all.back() = 4;
    for (const Counts& counts : {Counts(n, 3), rising, big, one_has_all}) {
      all_gather(counts);
      reduce_scatter(counts);
    }
    all_to_all([](int from, int to) { return int64_t{2}; });
    all_to_all([](int from, int to) { return int64_t{(from * 2 + to) % 3}; });
    all_to_all([](int from, int to) { return int64_t{from == 0 && to != 0 ? 7000 : 0}; });
    ring_of_messages();
    two_at_once();
    sub_group();
    world_.barrier();
    return std::move(result_);
  }

 private:
  at::Tensor mine(const Counts& sizes) { return values(rank_, salt_, sizes, dtype_); }
  std::vector<at::Tensor> everybody(const Counts& sizes) {
    std::vector<at::Tensor> all;
    for (int r = 0; r < n_; ++r) all.push_back(values(r, salt_, sizes, dtype_));
    return all;
  }
  static at::Tensor blank(const at::Tensor& like, int64_t rows) {
    Counts sizes = like.sizes().vec();
    sizes[0] = rows;
    return at::empty(sizes, like.options());
  }
  void expect(const std::string& call, const at::Tensor& actual, const at::Tensor& expected) {
    if (!at::equal(actual, expected))
      throw std::runtime_error(
          ithaca::str(call, " of ", c10::toString(dtype_), " on rank ", rank_, ": wrong result"));
    result_.calls += 1;
    result_.bytes.append(static_cast<const char*>(actual.const_data_ptr()), actual.nbytes());
    ++salt_;
  }
  void expect_bytes(const std::string& call, Verb verb, int64_t elements) {
    const int64_t expected = elements * static_cast<int64_t>(c10::elementSize(dtype_)),
                  counted = world_.traffic().bytes(verb);
    if (counted != expected)
      throw std::runtime_error(
          ithaca::str(call, " on rank ", rank_, ": ", counted, " bytes counted, expected ", expected));
    world_.traffic().reset();
  }

  void broadcast(int root, int64_t elements) {
    at::Tensor tensor = mine({elements});
    world_.broadcast(tensor, root);
    expect(ithaca::str("broadcast from ", root), tensor, values(root, salt_, {elements}, dtype_));
    int64_t children = 0;
    const int position = (rank_ - root + n_) % n_;
    for (int child = 1; child < n_; ++child) {
      int parent = child, highest = 1;
      while (highest * 2 <= child) highest *= 2;
      parent -= highest;
      if (parent == position) ++children;
    }
    expect_bytes("broadcast", Verb::kBroadcast, n_ == 1 ? 0 : children * elements);
  }

  void all_reduce(ReduceOp op, int64_t elements) {
    at::Tensor tensor = mine({elements});
    world_.all_reduce(tensor, op);
    const std::vector<at::Tensor> inputs = everybody({elements});
    expect(ithaca::str("all_reduce of ", elements), tensor,
           op == ReduceOp::kSum ? sum_in_order(inputs) : max_of(inputs));
    const int64_t own = elements / n_ + (rank_ < elements % n_ ? 1 : 0);
    const bool small = elements * static_cast<int64_t>(c10::elementSize(dtype_)) <= 16384;
    expect_bytes("all_reduce", Verb::kAllReduce,
                 n_ == 1 ? 0
                 : small ? elements * (n_ - 1)
                         : elements - own + own * (n_ - 1));
  }

  void all_gather(const Counts& counts) {
    const at::Tensor input = mine({counts[static_cast<std::size_t>(rank_)], 3});
    std::vector<at::Tensor> parts;
    for (int r = 0; r < n_; ++r)
      parts.push_back(values(r, salt_, {counts[static_cast<std::size_t>(r)], 3}, dtype_));
    const at::Tensor expected = at::cat(parts);
    at::Tensor out = blank(input, expected.size(0));
    world_.all_gather(out, input, counts);
    expect("all_gather", out, expected);
    expect_bytes("all_gather", Verb::kAllGather, input.numel() * (n_ - 1));
    // In place: the own rows lie in `out` already.
    at::Tensor whole = expected.clone().zero_();
    int64_t before = 0;
    for (int r = 0; r < rank_; ++r) before += counts[static_cast<std::size_t>(r)];
    at::Tensor own = whole.narrow(0, before, input.size(0));
    own.copy_(input);
    world_.all_gather(whole, own, counts);
    expect("all_gather in place", whole, expected);
    expect_bytes("all_gather in place", Verb::kAllGather, input.numel() * (n_ - 1));
  }

  void reduce_scatter(const Counts& counts) {
    int64_t rows = 0, before = 0;
    for (int r = 0; r < n_; ++r) {
      if (r < rank_) before += counts[static_cast<std::size_t>(r)];
      rows += counts[static_cast<std::size_t>(r)];
    }
    const int64_t own = counts[static_cast<std::size_t>(rank_)];
    const at::Tensor input = mine({rows, 3});
    at::Tensor out = blank(input, own);
    const at::Tensor expected = sum_in_order(everybody({rows, 3})).narrow(0, before, own).contiguous();
    world_.reduce_scatter(out, input, counts);
    expect("reduce_scatter", out, expected);
    expect_bytes("reduce_scatter", Verb::kReduceScatter, n_ == 1 ? 0 : (rows - own) * 3);
    at::Tensor whole = input.clone();
    out = whole.narrow(0, before, own);
    world_.reduce_scatter(out, whole, counts);
    expect("reduce_scatter in place", out, expected);
    expect_bytes("reduce_scatter in place", Verb::kReduceScatter, n_ == 1 ? 0 : (rows - own) * 3);
  }

  template <class Rows>
  void all_to_all(const Rows& rows) {
    Counts in_counts, out_counts;
    std::vector<at::Tensor> parts;
    int64_t in_rows = 0, out_rows = 0;
    for (int r = 0; r < n_; ++r) {
      in_counts.push_back(rows(rank_, r));
      out_counts.push_back(rows(r, rank_));
      in_rows += in_counts.back();
      out_rows += out_counts.back();
      int64_t total = 0, before = 0;  // of rank r's input
      for (int to = 0; to < n_; ++to) {
        if (to < rank_) before += rows(r, to);
        total += rows(r, to);
      }
      parts.push_back(values(r, salt_, {total, 2}, dtype_).narrow(0, before, out_counts.back()));
    }
    const at::Tensor input = mine({in_rows, 2});
    at::Tensor out = blank(input, out_rows);
    world_.all_to_all(out, input, out_counts, in_counts);
    expect("all_to_all", out, at::cat(parts));
    expect_bytes("all_to_all", Verb::kAllToAll, (in_rows - in_counts[static_cast<std::size_t>(rank_)]) * 2);
  }

  // Two messages to the right neighbour, received in the other order than sent; all posted, then all waited
  // for, sends first.
  void ring_of_messages() {
    if (n_ == 1) return;
    const int to = (rank_ + 1) % n_, from = (rank_ + n_ - 1) % n_;
    const at::Tensor small = mine({3}), large = mine({30011});
    at::Tensor got_small = at::empty_like(small), got_large = at::empty_like(large);
    std::vector<WorkPtr> works;
    works.push_back(world_.async_send(small, to, 5));
    works.push_back(world_.async_send(large, to, 7));
    works.push_back(world_.async_recv(got_large, from, 7));
    works.push_back(world_.async_recv(got_small, from, 5));
    for (const WorkPtr& work : works) work->wait();
    const int salt = salt_;
    expect("send", got_small, values(from, salt, {3}, dtype_));
    expect("send", got_large, values(from, salt, {30011}, dtype_));
    expect_bytes("send", Verb::kSend, 3 + 30011);
  }

  void two_at_once() {
    at::Tensor first = mine({20011}), second = mine({7});
    const Counts each(static_cast<std::size_t>(n_), 7);
    at::Tensor gathered = blank(second, 7 * n_);
    const WorkPtr a = world_.async_all_reduce(first);
    const WorkPtr b = world_.async_all_gather(gathered, second, each);
    a->wait();
    b->wait();
    const int salt = salt_;
    expect("async all_reduce", first, sum_in_order(everybody({20011})));
    std::vector<at::Tensor> parts;
    for (int r = 0; r < n_; ++r) parts.push_back(values(r, salt, {7}, dtype_));
    expect("async all_gather", gathered, at::cat(parts));
    world_.traffic().reset();
  }

  // The ranks in reverse, without rank 0 where there are more than two: sums go by the new order.
  void sub_group() {
    std::vector<int> members;
    for (int r = n_ - 1; r >= (n_ > 2 ? 1 : 0); --r) members.push_back(r);
    const std::unique_ptr<Communicator> group = world_.new_group(members, "reversed");
    if ((group == nullptr) != (n_ > 2 && rank_ == 0)) throw std::runtime_error("new_group: wrong membership");
    if (!group) return;
    at::Tensor tensor = mine({11});
    group->all_reduce(tensor);
    std::vector<at::Tensor> inputs;
    for (const int r : members) inputs.push_back(values(r, salt_, {11}, dtype_));
    expect("all_reduce in a reversed group", tensor, sum_in_order(inputs));
    if (group->ranks() != members) throw std::runtime_error("new_group: wrong ranks");
  }

  Communicator& world_;
  at::ScalarType dtype_;
  int n_, rank_;
  int salt_ = 0;
  TableResult result_;
};

}  // namespace

TableResult run_collective_table(Communicator& world, at::ScalarType dtype) {
  return Table(world, dtype).run();
}

}  // namespace ithaca
