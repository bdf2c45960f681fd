#include "ithaca/config/layout.h"

#include <gtest/gtest.h>

#include <vector>

namespace ithaca {
namespace {

ModelConfig heads(int64_t q, int64_t kv) {
  ModelConfig config;
  config.num_attention_heads = q;
  config.num_key_value_heads = kv;
  config.head_dim = 4;
  return config;
}

TEST(Layout, KvHeadsAreThoseThatTheQueryHeadsRead) {
  EXPECT_EQ(kv_heads_of({0, 5}, 9, 3), (Share{0, 2}));
  EXPECT_EQ(kv_heads_of({5, 4}, 9, 3), (Share{1, 2}));
  EXPECT_EQ(kv_heads_of({4, 3}, 7, 1), (Share{0, 1}));
  EXPECT_EQ(kv_heads_of({0, 0}, 9, 3), (Share{0, 0}));
}

// The formula by brute force: every element that leaves a rank, one at a time.
LayerTraffic counted(const ModelConfig& model, int64_t batch, int64_t tokens, int64_t element, int64_t sum,
                     int64_t ranks, int64_t rank) {
  const auto kv_used = [&](int64_t r) {
    std::vector<bool> used(static_cast<std::size_t>(model.num_key_value_heads));
    const Share q = even_split(model.num_attention_heads, ranks, r);
    for (int64_t h = q.begin; h < q.begin + q.count; ++h)
      used[static_cast<std::size_t>(h * model.num_key_value_heads / model.num_attention_heads)] = true;
    return used;
  };
  LayerTraffic traffic;
  for (int64_t other = 0; other < ranks; ++other) {
    if (other == rank) continue;
    const int64_t mine = batch * model.head_dim * even_split(tokens, ranks, rank).count;
    const int64_t theirs = batch * model.head_dim * even_split(tokens, ranks, other).count;
    for (int64_t q = 0; q < even_split(model.num_attention_heads, ranks, other).count; ++q) {
      traffic.forward += element * mine;   // q
      traffic.backward += element * mine;  // gradient of out
    }
    for (bool used : kv_used(other)) traffic.forward += used ? 2 * element * mine : 0;
    for (int64_t q = 0; q < even_split(model.num_attention_heads, ranks, rank).count; ++q) {
      traffic.forward += element * theirs;   // out
      traffic.backward += element * theirs;  // gradient of q
    }
    for (int64_t head = 0; head < model.num_key_value_heads; ++head) {
      if (!kv_used(rank)[static_cast<std::size_t>(head)]) continue;
      int users = 0;
      for (int64_t r = 0; r < ranks; ++r) users += kv_used(r)[static_cast<std::size_t>(head)];
      traffic.backward += 2 * (users > 1 ? sum : element) * theirs;
    }
  }
  return traffic;
}

TEST(Layout, TrafficEqualsWhatIsCounted) {
  for (const auto& [q, kv] : std::vector<std::pair<int64_t, int64_t>>{{8, 8}, {8, 2}, {9, 3}, {7, 1}, {5, 5}})
    for (int64_t ranks = 1; ranks <= 5; ++ranks)
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const LayerTraffic formula = ulysses_traffic(heads(q, kv), 3, 17, 2, ranks, rank);
        const LayerTraffic brute = counted(heads(q, kv), 3, 17, 2, 4, ranks, rank);
        EXPECT_EQ(formula.forward, brute.forward) << q << "/" << kv << " rank " << rank << " of " << ranks;
        EXPECT_EQ(formula.backward, brute.backward) << q << "/" << kv << " rank " << rank << " of " << ranks;
      }
  EXPECT_EQ(ulysses_traffic(heads(9, 3), 1, 17, 8, 2, 0).backward,
            counted(heads(9, 3), 1, 17, 8, 8, 2, 0).backward);
}

}  // namespace
}  // namespace ithaca
