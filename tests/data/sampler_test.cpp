#include "ithaca/data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using Ids = std::vector<int64_t>;

Ids sorted(Ids ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST(Sampler, TheSameSamplesForEveryFactorisationOfTheGlobalBatch) {
  int cases = 0;
  for (const int64_t num_samples : {1, 11, 12, 13, 50}) {
    const Sampler reference({num_samples, 12, 3, true});
    for (const int64_t replicas : {1, 2, 3, 4, 6, 12}) {
      for (const int64_t micros : {1, 2, 3, 4, 6, 12}) {
        if (12 % (replicas * micros) != 0) continue;
        for (int64_t n = 0; n < 3 * reference.steps_per_epoch(); ++n) {
          // In the order micro-batch, replica, the parts are the step itself
          Ids joined;
          for (int64_t m = 0; m < micros; ++m)
            for (int64_t d = 0; d < replicas; ++d) {
              const Ids part = Sampler({num_samples, 12, 3, true}).micro_batch(n, d, replicas, m, micros);
              joined.insert(joined.end(), part.begin(), part.end());
            }
          EXPECT_EQ(joined, reference.step(n))
              << num_samples << " samples, " << replicas << " x " << micros << ", step " << n;
          ++cases;
        }
      }
    }
  }
  EXPECT_EQ(cases, 18 * 3 * (1 + 1 + 1 + 2 + 5));
}

TEST(Sampler, EverySampleOnceAnEpochAndAnotherOrderEachTime) {
  for (const int64_t num_samples : {1, 7, 64, 1000}) {
    const Sampler sampler({num_samples, 8, 42, true});
    Ids everything(num_samples);
    std::iota(everything.begin(), everything.end(), 0);
    std::set<Ids> orders;
    for (int64_t epoch = 0; epoch < 5; ++epoch) {
      Ids seen;
      for (int64_t s = 0; s < sampler.steps_per_epoch(); ++s) {
        const Ids step = sampler.step(epoch * sampler.steps_per_epoch() + s);
        EXPECT_FALSE(step.empty());
        EXPECT_EQ(step.size() == 8, s + 1 < sampler.steps_per_epoch() || num_samples % 8 == 0);
        seen.insert(seen.end(), step.begin(), step.end());
      }
      EXPECT_EQ(sorted(seen), everything);
      orders.insert(seen);
    }
    EXPECT_EQ(orders.size(), num_samples == 1 ? 1u : 5u);
  }
}

TEST(Sampler, AResumedRunNeedsOnlyTheStepNumber) {
  const SamplerOptions options{37, 4, 9, true};
  const Sampler straight(options);
  std::vector<Ids> steps;
  for (int64_t n = 0; n < 30; ++n) steps.push_back(straight.step(n));
  for (int64_t n = 29; n >= 0; --n) EXPECT_EQ(Sampler(options).step(n), steps[n]);
  EXPECT_EQ(straight.step(3), steps[3]);  // and back across an epoch's end
}

TEST(Sampler, SeedsDifferAndTheOrderIsTheSameOnEveryMachine) {
  const auto order = [](uint64_t seed, int64_t epoch) { return epoch_order({10, 1, seed, true}, epoch); };
  std::set<Ids> orders;
  for (uint64_t seed = 0; seed < 20; ++seed)
    for (int64_t epoch = 0; epoch < 5; ++epoch) orders.insert(order(seed, epoch));
  EXPECT_EQ(orders.size(), 100u);
  // Worked out apart from this code, from the published mt19937-64 and splitmix64
  EXPECT_EQ(order(42, 0), (Ids{2, 0, 4, 7, 8, 3, 5, 1, 9, 6}));
  EXPECT_EQ(order(42, 1), (Ids{2, 8, 7, 3, 6, 4, 0, 9, 5, 1}));
}

TEST(Sampler, EachPlaceGetsEachSampleEquallyOften) {
  constexpr int kRounds = 6000, kSamples = 6;
  std::vector<int> counts(kSamples * kSamples);
  for (int epoch = 0; epoch < kRounds; ++epoch) {
    const Ids order = epoch_order({kSamples, 1, 1, true}, epoch);
    for (int place = 0; place < kSamples; ++place) ++counts[place * kSamples + order[place]];
  }
  for (const int count : counts) EXPECT_NEAR(count, 1000, 6 * 29);  // six standard deviations
}

TEST(Sampler, WithoutShuffleInFileOrder) {
  const Sampler sampler({5, 2, 42, false});
  EXPECT_EQ(sampler.steps_per_epoch(), 3);
  EXPECT_EQ(sampler.step(0), (Ids{0, 1}));
  EXPECT_EQ(sampler.step(2), (Ids{4}));
  EXPECT_EQ(sampler.step(3), (Ids{0, 1}));
  EXPECT_EQ(sampler.micro_batch(2, 1, 2, 0, 1), Ids{});
  EXPECT_EQ(sampler.micro_batch(2, 0, 2, 0, 1), Ids{4});
}

TEST(Sampler, RefusesWhatCannotBeSampled) {
  EXPECT_THROW(Sampler({0, 1, 0, true}), UserError);
  EXPECT_THROW(Sampler({3, 0, 0, true}), UserError);
  const Sampler sampler({10, 4, 0, true});
  EXPECT_THROW(sampler.micro_batch(0, 0, 3, 0, 1), Error);  // 3 does not divide 4
  EXPECT_THROW(sampler.micro_batch(0, 2, 2, 0, 1), Error);
  EXPECT_THROW(sampler.step(-1), Error);
}

}  // namespace
}  // namespace ithaca
