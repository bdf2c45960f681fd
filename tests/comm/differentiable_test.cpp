// Each collective's gradient against autograd of the same mathematics in one process, float64. Bound:
// max|a-b| <= 1e-12 * max(1, max|b|).
#include "ithaca/comm/differentiable.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sin.h>
#include <gtest/gtest.h>

#include "ithaca/comm/thread_world.h"

namespace ithaca {
namespace {

using Counts = std::vector<int64_t>;

at::Tensor leaf(int rank, int64_t rows) {
  return at::sin(at::arange(rows * 2, at::kDouble).add_(10.0 * rank)).view({rows, 2}).requires_grad_();
}
// Rank r's loss: a different weight for every element of its output, and not linear, so a gradient in the
// wrong place shows.
at::Tensor loss_of(const at::Tensor& out, int rank) {
  return (out.pow(3) * at::arange(out.numel(), at::kDouble).add_(1.0 + rank).view(out.sizes())).sum();
}
void expect_near(const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_TRUE(actual.defined());
  ASSERT_EQ(actual.sizes(), expected.sizes());
  if (actual.numel() == 0) return;
  const double scale = std::max(1.0, expected.abs().max().item<double>());
  EXPECT_LE((actual - expected).abs().max().item<double>(), 1e-12 * scale);
}

// outputs(inputs of all ranks) gives the outputs of all ranks in one process.
using Reference = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

void compare(int n, const std::function<int64_t(int)>& rows,
             const std::function<at::Tensor(const at::Tensor&, Communicator&)>& op,
             const Reference& reference) {
  std::vector<at::Tensor> inputs;
  for (int r = 0; r < n; ++r) inputs.push_back(leaf(r, rows(r)));
  const std::vector<at::Tensor> outputs = reference(inputs);
  at::Tensor total = loss_of(outputs[0], 0);
  for (int r = 1; r < n; ++r) total = total + loss_of(outputs[static_cast<std::size_t>(r)], r);
  total.backward();
  run_thread_ranks(n, [&](Communicator& world) {
    const auto rank = static_cast<std::size_t>(world.rank());
    const at::Tensor input = leaf(world.rank(), rows(world.rank()));
    const at::Tensor out = op(input, world);
    expect_near(out.detach(), outputs[rank].detach());
    loss_of(out, world.rank()).backward();
    expect_near(input.grad(), inputs[rank].grad().defined() ? inputs[rank].grad() : input.detach().mul(0));
  });
}

class Differentiable : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, Differentiable, testing::Values(1, 2, 3, 4));

// Rank r's rows under several splits, zeros included: even, rising from 0, all on the last.
std::vector<Counts> splits(int n) {
  Counts rising, last(static_cast<std::size_t>(n), 0);
  for (int r = 0; r < n; ++r) rising.push_back(r);
  last.back() = 3;
  return {Counts(static_cast<std::size_t>(n), 2), rising, last};
}

TEST_P(Differentiable, AllToAll) {
  const int n = GetParam();
  for (int variant = 0; variant < 2; ++variant) {
    const auto rows = [&](int from, int to) { return int64_t{variant == 0 ? 2 : (2 * from + to) % 3}; };
    const auto in_counts = [&](int rank) {
      Counts counts;
      for (int to = 0; to < n; ++to) counts.push_back(rows(rank, to));
      return counts;
    };
    const auto total = [&](int rank) {
      int64_t sum = 0;
      for (const int64_t count : in_counts(rank)) sum += count;
      return sum;
    };
    compare(
        n, total,
        [&](const at::Tensor& input, Communicator& world) {
          Counts out_counts;
          for (int from = 0; from < n; ++from) out_counts.push_back(rows(from, world.rank()));
          return all_to_all(input, world, out_counts, in_counts(world.rank()));
        },
        [&](const std::vector<at::Tensor>& inputs) {
          std::vector<std::vector<at::Tensor>> parts;
          for (int from = 0; from < n; ++from)
            parts.push_back(inputs[static_cast<std::size_t>(from)].split_with_sizes(in_counts(from)));
          std::vector<at::Tensor> outputs;
          for (int to = 0; to < n; ++to) {
            std::vector<at::Tensor> received;
            for (const auto& part : parts) received.push_back(part[static_cast<std::size_t>(to)]);
            outputs.push_back(at::cat(received));
          }
          return outputs;
        });
  }
}

TEST_P(Differentiable, AllGather) {
  const int n = GetParam();
  for (const Counts& counts : splits(n)) {
    compare(
        n, [&](int rank) { return counts[static_cast<std::size_t>(rank)]; },
        [&](const at::Tensor& input, Communicator& world) { return all_gather(input, world, counts); },
        [&](const std::vector<at::Tensor>& inputs) {
          return std::vector<at::Tensor>(static_cast<std::size_t>(n), at::cat(inputs));
        });
  }
}

TEST_P(Differentiable, ReduceScatter) {
  const int n = GetParam();
  for (const Counts& counts : splits(n)) {
    int64_t total = 0;
    for (const int64_t count : counts) total += count;
    compare(
        n, [&](int) { return total; },
        [&](const at::Tensor& input, Communicator& world) { return reduce_scatter(input, world, counts); },
        [&](const std::vector<at::Tensor>& inputs) {
          at::Tensor sum = inputs[0];
          for (std::size_t r = 1; r < inputs.size(); ++r) sum = sum + inputs[r];
          return sum.split_with_sizes(counts);
        });
  }
}

TEST(DifferentiableCollectives, TakeInputsAndGradientsThatAreNotContiguous) {
  run_thread_ranks(2, [](Communicator& world) {
    const at::Tensor input = at::arange(8, at::kDouble).view({2, 4}).requires_grad_();
    const at::Tensor out = all_to_all(input.transpose(0, 1), world, {2, 2}, {2, 2});  // [4, 2]
    out.transpose(0, 1).sum().backward();
    EXPECT_TRUE(input.grad().equal(at::ones({2, 4}, at::kDouble)));
    EXPECT_EQ(world.traffic().bytes(Verb::kAllToAll),
              2 * (2 * 2 * 8));  // forward and backward: 2 rows of 2 doubles
  });
}

}  // namespace
}  // namespace ithaca
