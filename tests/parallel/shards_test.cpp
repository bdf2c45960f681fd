#include "ithaca/parallel/zero/shards.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "ithaca/comm/thread_world.h"
#include "ithaca/comm/traffic.h"

namespace ithaca {
namespace {

// Parameters that the shares of any number of ranks cut in the middle, with a frozen one between.
struct Model {
  explicit Model(at::ScalarType dtype) {
    int64_t next = 1;
    for (const auto& [name, sizes] : std::vector<std::pair<std::string, std::vector<int64_t>>>{
             {"a", {7, 30}}, {"frozen", {50}}, {"b", {3}}, {"c", {11, 13}}}) {
      Parameter parameter;
      parameter.name = name;
      parameter.value = at::arange(next, next + c10::multiply_integers(sizes)).view(sizes).to(dtype);
      parameter.requires_grad = name != "frozen";
      next += parameter.value.numel();
      parameters.push_back(std::move(parameter));
    }
  }
  ParameterList list() {
    ParameterList all;
    for (Parameter& p : parameters) all.push_back(&p);
    return all;
  }
  std::vector<Parameter> parameters;
};

class Shards : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Shards, testing::Values(1, 2, 3, 5));

TEST_P(Shards, AStepEqualsThatOfOneRankAndItsStateComesTogether) {
  const OptimizerOptions adamw{.weight_decay = 0.1};
  for (const at::ScalarType dtype : {at::kDouble, at::kBFloat16}) {
    run_thread_ranks(GetParam(), [&](Communicator& world) {
      Model single(dtype), model(dtype);
      std::vector<OptimizerEntry> whole;
      for (Parameter* p : single.list())
        if (p->requires_grad) {
          p->grad = at::zeros(p->value.sizes(), opmath(dtype));
          whole.push_back({p->name, p->value, p->grad, p->value.dim() >= 2});
        }
      Optimizer expected(adamw, whole);
      ParameterShards shards(model.list(), world, /*return_gradients=*/dtype == at::kBFloat16);
      Optimizer optimizer(adamw, shards.entries());

      double squares = 0;
      for (std::size_t i = 0; i < single.parameters.size(); ++i) {
        Parameter &one = single.parameters[i], &ours = model.parameters[i];
        if (!one.requires_grad) continue;
        const at::Tensor index = at::arange(one.value.numel(), one.grad.options()).view(one.value.sizes());
        for (int r = 0; r < world.size(); ++r) one.grad.add_(index, r + 1);  // whole numbers: exact sums
        ours.grad.add_(index, world.rank() + 1);
        one.grad.mul_(0.5);
        squares += one.grad.to(at::kDouble).pow(2).sum().item<double>();
      }
      world.traffic().reset();
      shards.reduce_gradients();
      shards.scale_gradients(0.5);
      at::Tensor sum = at::zeros({1}, at::kDouble).fill_(shards.sum_of_squares());
      const int64_t sent_reducing = world.traffic().total_bytes();
      world.all_reduce(sum);
      EXPECT_NEAR(sum.item<double>(), squares, 1e-9 * squares);
      expected.step(1e-2);
      optimizer.step(1e-2);
      world.traffic().reset();
      shards.gather_values();
      EXPECT_EQ(sent_reducing + world.traffic().total_bytes(), shards.step_bytes());
      for (std::size_t i = 0; i < single.parameters.size(); ++i)
        EXPECT_TRUE(at::equal(model.parameters[i].value, single.parameters[i].value)) << i;
      shards.clear_gradients();
      EXPECT_TRUE(model.parameters[0].grad.eq(0).all().item<bool>());
      for (int times = 1; times <= 2; ++times) {  // the first use after clearing, and a further one
        model.parameters[0].accumulate(at::ones({7, 30}));
        EXPECT_TRUE(model.parameters[0].grad.eq(times).all().item<bool>()) << times;
      }

      const std::vector<StateSlot> slots = shards.state_slots(optimizer);
      EXPECT_EQ(slots.size(), dtype == at::kBFloat16 ? 9u : 6u);
      std::size_t compared = 0;
      shards.gather_state(slots, [&](const ParameterShards::WholeSlot& whole_slot) {
        for (std::size_t i = slots.size(); i-- > 0;) {  // any order
          const std::string kind = slots[i].name.substr(0, slots[i].name.find('.'));
          EXPECT_TRUE(at::equal(whole_slot(i), expected.state(kind, i % 3))) << slots[i].name;
          ++compared;
        }
      });
      EXPECT_EQ(compared, world.rank() == 0 ? slots.size() : 0u);
    });
  }
}

}  // namespace
}  // namespace ithaca
