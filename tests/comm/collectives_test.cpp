// Arguments that are refused before anything is sent.
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>

#include "ithaca/base/error.h"
#include "ithaca/comm/cost.h"
#include "ithaca/comm/thread_world.h"

namespace ithaca {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// The message of the error that rank 0 gets from `call`.
std::string refusal(const std::function<void(Communicator&)>& call) {
  std::string message = "nothing was refused";
  run_thread_ranks(2, [&](Communicator& world) {
    if (world.rank() != 0) return;
    try {
      call(world);
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_EQ(world.traffic().total_bytes(), 0) << "counted before it was checked";
  });
  return message;
}

TEST(Arguments, AreCheckedAndTheErrorNamesVerbGroupAndValues) {
  const auto tensor = [](std::initializer_list<int64_t> sizes) { return at::ones(at::IntArrayRef(sizes)); };
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor t = tensor({2, 3}).transpose(0, 1);
                world.all_reduce(t);
              }),
              AllOf(HasSubstr("[all_reduce] group world of 2, rank 0"), HasSubstr("not contiguous"),
                    HasSubstr("[3, 2]")));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor t;
                world.all_reduce(t);
              }),
              HasSubstr("undefined"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor t = tensor({1});
                world.broadcast(t, 2);
              }),
              HasSubstr("root is 2, expected 0 to 1"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor out = at::ones({4}, at::kDouble);
                world.all_gather(out, tensor({2}));
              }),
              HasSubstr("out is Double, input is Float"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor out = tensor({5});
                world.all_gather(out, tensor({2}));
              }),
              HasSubstr("out has 5 rows, expected 4 by the counts [2, 2]"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor out = tensor({5});
                world.all_gather(out, tensor({2}), {1, 4});
              }),
              HasSubstr("input has 2 rows, expected 1 by the counts [1, 4]"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor out = tensor({5});
                world.all_gather(out, tensor({2}), {2, 2, 1});
              }),
              HasSubstr("counts has 3 entries: [2, 2, 1]"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor out = tensor({1, 3});
                world.reduce_scatter(out, tensor({3, 3}));
              }),
              HasSubstr("input has 3 rows, which the group does not divide"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor out = tensor({1, 4});
                world.reduce_scatter(out, tensor({2, 3}));
              }),
              HasSubstr("the sizes after dim 0 differ: out [1, 4], input [2, 3]"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor out = tensor({2});
                world.all_to_all(out, tensor({2}), {3, -1}, {1, 1});
              }),
              HasSubstr("out_counts has a negative entry: [3, -1]"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor out = tensor({2});
                world.all_to_all(out, tensor({2}), {0, 2}, {1, 1});
              }),
              HasSubstr("rank 0 sends itself 1 rows and expects 0"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                at::Tensor whole = tensor({4});
                at::Tensor out = whole.narrow(0, 0, 2), input = whole.narrow(0, 1, 2);
                world.all_to_all(out, input, {1, 1}, {1, 1});
              }),
              HasSubstr("overlap in memory"));
  EXPECT_THAT(refusal([&](Communicator& world) { world.send(tensor({1}), 0); }),
              HasSubstr("cannot send to itself"));
  EXPECT_THAT(refusal([&](Communicator& world) { world.send(tensor({1}), 1, -1); }), HasSubstr("tag is -1"));
  EXPECT_THAT(refusal([&](Communicator& world) {
                world.new_group({0, 0}, "twice");
              }),
              HasSubstr("rank 0 occurs twice in group twice"));
  EXPECT_THAT(refusal([&](Communicator& world) { world.new_group({}, "none"); }),
              HasSubstr("group none has no ranks"));
  EXPECT_THAT(refusal([&](Communicator& world) { world.new_group({5}, "far"); }),
              HasSubstr("a rank of the new group is 5"));
}

TEST(Cost, KnownValues) {
  EXPECT_EQ(all_reduce_cost(1, 0, 100, 4).bytes, 0);
  EXPECT_EQ(all_reduce_cost(4, 1, 1, 4).bytes, 12);
  EXPECT_EQ(all_reduce_cost(4, 0, 1 << 20, 4).bytes, 2 * 3 * (1 << 20));  // 2 (n - 1) / n of 4 MiB
  EXPECT_EQ(all_reduce_cost(4, 0, 1 << 20, 4).steps, 2);
  EXPECT_EQ(all_gather_cost({3, 0, 5}, 2, 8).bytes, 80);
  EXPECT_EQ(reduce_scatter_cost({3, 0, 5}, 2, 8).bytes, 24);
  EXPECT_EQ(all_to_all_cost({3, 0, 5}, 0, 8).bytes, 40);
  EXPECT_EQ(broadcast_cost(5, 0, 0, 10).bytes, 30);  // the root serves 1, 2 and 4
  EXPECT_EQ(broadcast_cost(5, 1, 0, 10).bytes, 10);  // 1 serves 3
  EXPECT_EQ(broadcast_cost(5, 0, 1, 10).bytes, 0);   // root 1: rank 0 is the last leaf
  EXPECT_EQ(broadcast_cost(5, 0, 0, 10).steps, 3);
}

}  // namespace
}  // namespace ithaca
