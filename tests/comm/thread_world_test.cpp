#include "ithaca/comm/thread_world.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "ithaca/base/error.h"
#include "tests/comm/collective_table.h"
#include "tests/comm/message_order.h"

namespace ithaca {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

class ThreadTable : public testing::TestWithParam<std::tuple<int, at::ScalarType>> {};

TEST_P(ThreadTable, EveryVerbEqualsSingleProcessArithmetic) {
  const auto [size, dtype] = GetParam();
  std::atomic<int> calls = 0;
  run_thread_ranks(
      size, [&, dtype = dtype](Communicator& world) { calls += run_collective_table(world, dtype).calls; });
  EXPECT_GE(calls, 20 * size);
}

std::string table_name(const testing::TestParamInfo<std::tuple<int, at::ScalarType>>& info) {
  return std::string(c10::toString(std::get<1>(info.param))) + "_" + std::to_string(std::get<0>(info.param));
}
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadTable,
                         testing::Combine(testing::Values(1, 2, 3, 4),
                                          testing::Values(at::kFloat, at::kDouble, at::kBFloat16, at::kHalf,
                                                          at::kLong, at::kInt, at::kByte, at::kBool)),
                         table_name);
INSTANTIATE_TEST_SUITE_P(Seven, ThreadTable,
                         testing::Combine(testing::Values(7), testing::Values(at::kDouble, at::kBFloat16)),
                         table_name);

TEST(ThreadWorld, MessagesMayBeWaitedForInAnyOrder) {
  std::atomic<int> done = 0;
  for (const int size : {2, 3}) {
    run_thread_ranks(size, [&](Communicator& world) {
      exchange_in_any_order(world);
      ++done;
    });
  }
  EXPECT_EQ(done, 5);
}

TEST(ThreadWorld, BFloat16IsSummedInFloat32) {
  // 1 + 2^-8 + 2^-8: in bfloat16 each addition would round back to 1; in float32 the sum is 1 + 2^-7, which
  // bfloat16 holds.
  run_thread_ranks(3, [](Communicator& world) {
    at::Tensor tensor = at::full({1}, world.rank() == 0 ? 1.0 : 1.0 / 256, at::kBFloat16);
    world.all_reduce(tensor);
    EXPECT_EQ(tensor.item<float>(), 1.0f + 1.0f / 128);
  });
}

TEST(ThreadWorld, MaximumKeepsNan) {
  run_thread_ranks(3, [](Communicator& world) {
    at::Tensor tensor = at::full({2}, static_cast<double>(world.rank()), at::kFloat);
    if (world.rank() == 1) tensor[0] = std::nan("");
    world.all_reduce(tensor, ReduceOp::kMax);
    EXPECT_TRUE(std::isnan(tensor[0].item<float>()));
    EXPECT_EQ(tensor[1].item<float>(), 2.0f);
  });
}

// Runs, and returns the message of the CommunicationError (or other kind) that came, which must come within
// five seconds.
template <class Kind>
std::string failure(int size, const std::function<void(Communicator&)>& fn,
                    std::chrono::milliseconds timeout = 60s) {
  const auto start = std::chrono::steady_clock::now();
  std::string message = "no error came";
  try {
    run_thread_ranks(size, fn, timeout);
  } catch (const Kind& error) {
    message = error.what();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  return message;
}

TEST(ThreadWorld, AThrowingRankEndsTheOthersAndIsNamed) {
  std::atomic<int> ended = 0;
  const std::string message = failure<NumericsError>(3, [&](Communicator& world) {
    if (world.rank() == 2) throw NumericsError("the loss is NaN");
    at::Tensor tensor = at::ones({4});
    try {
      world.all_reduce(tensor);
    } catch (const CommunicationError& error) {
      EXPECT_THAT(error.what(),
                  AllOf(HasSubstr("all_reduce in group world"), HasSubstr("rank 2 failed: the loss is NaN")));
      ++ended;
      throw;
    }
  });
  EXPECT_EQ(message, "rank 2: the loss is NaN");
  EXPECT_EQ(ended, 2);
}

TEST(ThreadWorld, TheKindOfTheFirstErrorIsKept) {
  EXPECT_EQ(failure<UserError>(2, [](Communicator& world) { throw UserError("bad flag"); }).substr(6),
            ": bad flag");
  EXPECT_EQ(failure<CommunicationError>(1, [](Communicator& world) { throw CommunicationError("lost"); }),
            "rank 0: lost");
  EXPECT_EQ(failure<Error>(1, [](Communicator& world) { throw std::logic_error("odd"); }), "rank 0: odd");
}

TEST(ThreadWorld, ACallThatOneRankNeverMakesTimesOutAndNamesIt) {
  const std::string message = failure<CommunicationError>(
      3,
      [](Communicator& world) {
        if (world.rank() == 1) return std::this_thread::sleep_for(600ms);
        world.barrier();
      },
      200ms);
  EXPECT_THAT(message,
              AllOf(HasSubstr("barrier in group world"), HasSubstr("no answer within 200 ms from rank 1")));
}

TEST(ThreadWorld, ARankThatReturnsEarlyIsNamedAtOnce) {
  EXPECT_THAT(failure<CommunicationError>(3,
                                          [](Communicator& world) {
                                            if (world.rank() != 1) world.barrier();
                                          }),
              HasSubstr("rank 1 returned without making this call"));
  EXPECT_THAT(failure<CommunicationError>(2,
                                          [](Communicator& world) {
                                            at::Tensor tensor = at::ones({1});
                                            if (world.rank() == 0) world.recv(tensor, 1);
                                          }),
              HasSubstr("recv from rank 1 with tag 0 in group world: rank 1 returned"));
}

TEST(ThreadWorld, MismatchedCallsAreNamed) {
  const auto mismatch = [](const std::function<void(Communicator&)>& fn) {
    return failure<CommunicationError>(2, fn);
  };
  EXPECT_THAT(mismatch([](Communicator& world) {
                at::Tensor tensor = at::ones({2});
                if (world.rank() == 0) world.all_reduce(tensor);
                if (world.rank() == 1) world.broadcast(tensor, 0);
              }),
              AllOf(HasSubstr("rank 0 called all_reduce"), HasSubstr("rank 1 called broadcast")));
  EXPECT_THAT(mismatch([](Communicator& world) {
                at::Tensor tensor = at::ones({2 + world.rank()});
                world.all_reduce(tensor);
              }),
              AllOf(HasSubstr("all_reduce of Float [2]"), HasSubstr("all_reduce of Float [3]")));
  EXPECT_THAT(mismatch([](Communicator& world) {
                at::Tensor tensor = at::ones({2}, world.rank() ? at::kFloat : at::kDouble);
                world.all_reduce(tensor);
              }),
              AllOf(HasSubstr("of Float [2]"), HasSubstr("of Double [2]")));
  EXPECT_THAT(mismatch([](Communicator& world) {
                at::Tensor tensor = at::ones({2});
                world.broadcast(tensor, world.rank());
              }),
              HasSubstr("called broadcast"));
  EXPECT_THAT(mismatch([](Communicator& world) {
                const at::Tensor input = at::ones({2});
                at::Tensor out = at::empty({2});
                world.all_to_all(out, input, {1, 1},
                                 world.rank() == 0 ? std::vector<int64_t>{1, 1} : std::vector<int64_t>{1, 1});
                at::Tensor wider = at::empty({3});
                if (world.rank() == 0) world.all_to_all(out, input, {1, 1}, {1, 1});
                if (world.rank() == 1) world.all_to_all(wider, input, {2, 1}, {1, 1});
              }),
              HasSubstr("called all_to_all"));
  EXPECT_THAT(mismatch([](Communicator& world) {
                at::Tensor tensor = at::ones({2 + world.rank()});
                if (world.rank() == 0) world.send(tensor, 1);
                if (world.rank() == 1) world.recv(tensor, 0);
              }),
              AllOf(HasSubstr("[2] was sent"), HasSubstr("[3] is expected")));
}

TEST(ThreadWorld, NobodyRunsMismatchedCalls) {
  // Rank 1 posts last and lives on after its error: the ranks that wait must fail of themselves, at once,
  // with their tensors as they were.
  std::atomic<int> waiting = 0, failed = 0;
  EXPECT_NO_THROW(run_thread_ranks(3, [&](Communicator& world) {
    at::Tensor tensor = at::full({world.rank() == 1 ? 4096 : 2}, 5.0);
    if (world.rank() == 1) {
      while (waiting < 2) std::this_thread::sleep_for(1ms);
      EXPECT_THROW(world.all_reduce(tensor), CommunicationError);
      const auto deadline = std::chrono::steady_clock::now() + 5s;
      while (failed < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(1ms);
      return;
    }
    const WorkPtr work = world.async_all_reduce(tensor);
    ++waiting;
    try {
      work->wait();
    } catch (const CommunicationError& error) {
      ++failed;
      EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 1 called all_reduce of Float [4096]"),
                                      HasSubstr("rank 0 called all_reduce of Float [2]")));
    }
    EXPECT_TRUE(tensor.equal(at::full({2}, 5.0)));
  }));
  EXPECT_EQ(failed, 2);
}

TEST(ThreadWorld, SingleRankWorldIsAGroupOfOne) {
  const std::unique_ptr<Communicator> world = single_rank_world(3, "solo");
  EXPECT_EQ(world->size(), 1);
  EXPECT_EQ(world->ranks(), std::vector<int>{3});
  const at::Tensor input = at::ones({2, 3});
  at::Tensor out = at::zeros({2, 3});
  world->all_to_all(out, input, {2}, {2});
  EXPECT_TRUE(out.equal(input));
  world->barrier();
  EXPECT_EQ(world->new_group({0}, "again")->size(), 1);
  EXPECT_EQ(world->traffic().total_bytes(), 0);
}

}  // namespace
}  // namespace ithaca
