// Which method and degrees settings, heads and ranks lead to, as a table; and what each rank then holds.
#include "ithaca/config/sequence_plan.h"

#include <gmock/gmock.h>

#include "ithaca/config/attention_settings.h"
#include "ithaca/config/sequence_load.h"

namespace ithaca {
namespace {

using testing::HasSubstr;
using Words = std::vector<std::string>;

ModelConfig model_of(int64_t q, int64_t kv, int64_t head_dim = 64) {
  ModelConfig model;
  model.num_attention_heads = q;
  model.num_key_value_heads = kv;
  model.head_dim = head_dim;
  return model;
}

Settings settings_of(const Words& words) {
  Words all = {"--per_device_train_batch_size", "1"};
  all.insert(all.end(), words.begin(), words.end());
  return resolve_settings({}, all).values;
}

struct Case {
  Words words;
  int64_t q, kv, ranks_per_node;
  const char *title, *reason;  // the reason: a part of it
};

TEST(SequencePlan, Table) {
  const Case cases[] = {
      {{}, 9, 3, 1, "ulysses 1", "sequences of its own"},
      {{"--sequence_parallel_method", "ring"}, 9, 3, 1, "ulysses 1", "sequences of its own"},
      // heads divide
      {{"--sequence_parallel_size", "4"}, 8, 2, 4, "ulysses 4", "8 query heads divide over 4 ranks"},
      {{"--sequence_parallel_size", "3", "--cutoff_len", "65536"}, 9, 3, 3, "ulysses 3", "divide"},
      {{"--sequence_parallel_size", "9"}, 9, 3, 9, "ulysses 9", "divide"},
      // they do not: long rows on a ring, short ones by Ulysses
      {{"--sequence_parallel_size", "2", "--cutoff_len", "4096"},
       9,
       3,
       2,
       "ring 2",
       "5 against 4 (1.11 times"},
      {{"--sequence_parallel_size", "2", "--cutoff_len", "65536"}, 9, 3, 2, "ring 2", "of Ulysses"},
      {{"--sequence_parallel_size", "4", "--cutoff_len", "16384"},
       9,
       3,
       4,
       "ring 4",
       "3 against 2 (1.33 times"},
      {{"--sequence_parallel_size", "8", "--cutoff_len", "16384"},
       28,
       4,
       8,
       "hybrid ring 2 x ulysses 4",
       "of Ulysses"},
      {{"--sequence_parallel_size", "2", "--cutoff_len", "4096", "--train_file", "a.jsonl"},
       9,
       3,
       2,
       "ulysses 2",
       "packed from many documents"},
      {{"--sequence_parallel_size", "2", "--cutoff_len", "4096", "--train_file", "a.jsonl", "--packing",
        "false"},
       9,
       3,
       2,
       "ring 2",
       "of Ulysses"},
      // more ranks than heads
      {{"--sequence_parallel_size", "10"},
       9,
       3,
       10,
       "hybrid ring 2 x ulysses 5",
       "10 ranks are more than the 9 query heads"},
      {{"--sequence_parallel_size", "8"}, 7, 1, 8, "hybrid ring 2 x ulysses 4", "more than"},
      {{"--sequence_parallel_size", "11"}, 9, 3, 11, "ring 11", "the only grid that fits"},
      {{"--sequence_parallel_size", "4"}, 1, 1, 4, "ring 4", "the only grid"},
      // several machines
      {{"--sequence_parallel_size", "8", "--cutoff_len", "65536"}, 8, 8, 4, "ulysses 8", "several machines"},
      {{"--sequence_parallel_size", "8", "--cutoff_len", "65536"}, 8, 8, 8, "ulysses 8", "one machine"},
      // as asked
      {{"--sequence_parallel_size", "4", "--sequence_parallel_method", "ulysses"},
       9,
       3,
       4,
       "ulysses 4",
       "as the settings say"},
      {{"--sequence_parallel_size", "4", "--sequence_parallel_method", "ring"},
       8,
       8,
       4,
       "ring 4",
       "as the settings say"},
      {{"--sequence_parallel_size", "4", "--sequence_parallel_method", "kv_allgather"},
       8,
       8,
       4,
       "kv_allgather 4",
       "as"},
      {{"--sequence_parallel_size", "8", "--sequence_parallel_method", "double_ring", "--cp_window_size",
        "2"},
       8,
       8,
       8,
       "double_ring 8 (inner ring 2)",
       "as"},
      {{"--sequence_parallel_size", "4", "--ulysses_degree", "4"}, 9, 3, 4, "ulysses 4", "as"},
      {{"--sequence_parallel_size", "4", "--ulysses_degree", "2"},
       8,
       8,
       4,
       "hybrid ring 2 x ulysses 2",
       "as"},
      {{"--sequence_parallel_size", "4", "--ulysses_degree", "1"}, 8, 8, 4, "ring 4", "as"},
      {{"--sequence_parallel_size", "4", "--sequence_parallel_method", "hybrid", "--ulysses_degree", "4"},
       8,
       8,
       4,
       "hybrid ring 1 x ulysses 4",
       "as"},
      {{"--sequence_parallel_size", "4", "--sequence_parallel_method", "hybrid"},
       8,
       8,
       4,
       "hybrid ring 2 x ulysses 2",
       "as"},
      {{"--sequence_parallel_size", "3", "--sequence_parallel_method", "hybrid"},
       9,
       3,
       3,
       "hybrid ring 1 x ulysses 3",
       "divide"},
      {{"--sequence_parallel_size", "16", "--ulysses_degree", "4", "--cp_window_size", "2"},
       8,
       8,
       16,
       "hybrid ring 4 (inner ring 2) x ulysses 4",
       "as"},
      {{"--context-parallel-size", "8", "--context-parallel-algo", "hybrid_cp_algo", "--ulysses-degree-in-cp",
        "2"},
       8,
       8,
       8,
       "hybrid ring 4 x ulysses 2",
       "as"},
      {{"--context-parallel-size", "2"}, 9, 3, 2, "ulysses 2", "as the settings say"},
  };
  for (const Case& one : cases) {
    const SequencePlan plan =
        plan_sequence(settings_of(one.words), model_of(one.q, one.kv), one.ranks_per_node);
    EXPECT_EQ(plan.title(), one.title) << testing::PrintToString(one.words) << plan.reason;
    EXPECT_THAT(plan.reason, HasSubstr(one.reason)) << one.title;
    EXPECT_EQ(plan.ulysses * plan.ring, settings_of(one.words).sequence_parallel_size);
  }
}

TEST(SequencePlan, InnerRingOfAutoIsKept) {
  const SequencePlan plan = plan_sequence(
      settings_of({"--sequence_parallel_size", "8", "--cp_window_size", "4"}), model_of(8, 8), 8);
  EXPECT_EQ(plan.method, SequenceMethod::kRing);
  EXPECT_EQ(plan.method_name(), "double_ring");
  EXPECT_EQ(plan.inner_ring, 4);
}

TEST(SequencePlan, OrderIsThatOfTheSettings) {
  const Words words = {"--sequence_parallel_size", "4", "--ulysses_degree", "2"};
  EXPECT_TRUE(plan_sequence(settings_of(words), model_of(8, 8), 4).ulysses_inner);
  Words ring_inner = words;
  ring_inner.insert(ring_inner.end(), {"--sequence_parallel_order", "ring_inner"});
  EXPECT_FALSE(plan_sequence(settings_of(ring_inner), model_of(8, 8), 4).ulysses_inner);
}

TEST(SequencePlan, ASlowWireKeepsTheExchangeOnOneMachine) {
  SequenceCosts costs = kCpuCosts;
  costs.wire_bytes = 1e8;
  const Settings settings = settings_of({"--sequence_parallel_size", "8", "--cutoff_len", "8192"});
  EXPECT_EQ(plan_sequence(settings, model_of(32, 8), 4, costs).title(), "hybrid ring 2 x ulysses 4");
  EXPECT_EQ(plan_sequence(settings, model_of(32, 8), 8, costs).title(), "ulysses 8");
}

// The estimate moves as what it estimates does.
TEST(SequencePlan, EstimateGrowsWithItsCauses) {
  const ModelConfig model = model_of(9, 3);
  const SequencePlan ulysses{.ulysses = 2, .reason = {}};
  const SequencePlan ring{.method = SequenceMethod::kRing, .ring = 2, .reason = {}};
  const auto seconds = [&](const SequencePlan& plan, const Words& words, int64_t ranks_per_node = 2,
                           const SequenceCosts& costs = kCpuCosts) {
    return estimated_attention_seconds(plan, settings_of(words), model, ranks_per_node, costs);
  };
  for (const SequencePlan& plan : {ulysses, ring}) {
    const double base = seconds(plan, {"--cutoff_len", "8192"});
    EXPECT_GT(seconds(plan, {"--cutoff_len", "16384"}), 3.5 * base) << "quadratic in length";
    EXPECT_LT(seconds(plan, {"--cutoff_len", "16384"}), 4.0 * base);
    EXPECT_GT(seconds(plan, {"--cutoff_len", "8192", "--causal", "false"}), 1.8 * base);
    EXPECT_LT(seconds(plan, {"--cutoff_len", "8192", "--sliding_window", "512"}), 0.2 * base);
    EXPECT_LT(seconds(plan, {"--cutoff_len", "8192", "--bf16"}), 0.6 * base);
    EXPECT_NEAR(seconds(plan, {"--cutoff_len", "8192", "--per_device_train_batch_size", "2"}), 2 * base,
                0.01 * base);
  }
  SequenceCosts slow_wire = kCpuCosts;
  slow_wire.wire_bytes = 1e7;
  EXPECT_GT(seconds(ulysses, {}, 1, slow_wire), 2 * seconds(ulysses, {}, 2, slow_wire));
  EXPECT_LT(seconds(ulysses, {"--ulysses_chunks", "4"}, 1, slow_wire), seconds(ulysses, {}, 1, slow_wire));
}

struct LoadCase {
  Words words;
  int64_t q, kv;
};

// Rows, heads and work of all ranks together are those of one rank alone.
TEST(SequenceLoad, PartsMakeTheWhole) {
  const LoadCase cases[] = {{{"--ulysses_degree", "2"}, 9, 3},
                            {{"--ulysses_degree", "2", "--sequence_parallel_order", "ring_inner"}, 9, 3},
                            {{"--ulysses_degree", "4"}, 9, 3},
                            {{"--ulysses_degree", "1"}, 7, 1},
                            {{"--ulysses_degree", "1", "--sliding_window", "50"}, 5, 5},
                            {{"--ulysses_degree", "2", "--causal", "false"}, 28, 4},
                            {{"--sequence_parallel_method", "kv_allgather"}, 8, 2}};
  for (const LoadCase& one : cases) {
    Words words = one.words;
    words.insert(words.end(), {"--sequence_parallel_size", "4", "--cutoff_len", "1001"});
    const Settings settings = settings_of(words);
    const ModelConfig model = model_of(one.q, one.kv);
    const SequencePlan plan = plan_sequence(settings, model, 4);
    const std::vector<RankLoad> loads = sequence_loads(plan, settings, model);
    ASSERT_EQ(loads.size(), 4u);
    int64_t tokens = 0;
    double pairs = 0;
    RowSet rows;
    for (const RankLoad& load : loads) {
      tokens += count_of(load.rows);
      pairs += load.pairs;
      rows = union_of(rows, load.rows);
    }
    EXPECT_EQ(tokens, 1001) << plan.title();
    EXPECT_EQ(rows, (RowSet{{0, 1001}})) << plan.title();
    EXPECT_EQ(pairs,
              static_cast<double>(dense_rules(settings.causal, std::max<int64_t>(0, settings.sliding_window))
                                      .pairs({0, 1001}, {0, 1001}) *
                                  one.q));
    EXPECT_GE(imbalance(loads), 1.0);
  }
}

// 2^30 tokens and 64 heads: 2^65 pairs. Windows beyond all tokens are none.
TEST(SequenceLoad, TheLongestRowsDoNotOverflow) {
  const ModelConfig model = model_of(64, 64, 128);
  const double tokens = 0x1p30, all = tokens * (tokens + 1) / 2 * 64;
  int64_t ranks = 0;
  for (const Words& more : std::vector<Words>{{"--ulysses_degree", "64"},
                                              {"--ulysses_degree", "1"},
                                              {"--ulysses_degree", "8"},
                                              {"--sequence_parallel_method", "kv_allgather"},
                                              {"--ulysses_degree", "8", "--causal", "false"},
                                              {"--ulysses_degree", "8", "--sliding_window", "1073741824"}}) {
    Words words = {"--sequence_parallel_size", "64", "--cutoff_len", "1073741824"};
    words.insert(words.end(), more.begin(), more.end());
    const Settings settings = settings_of(words);
    const SequencePlan plan = plan_sequence(settings, model, 64);
    double pairs = 0;
    for (const RankLoad& load : sequence_loads(plan, settings, model)) {
      pairs += load.pairs;
      EXPECT_GT(load.pairs, 0) << plan.title();
      EXPECT_GT(load.forward, 0) << plan.title();
      // 2^24 rows of 64 heads, K and V to 63 others in float32 and their gradients back: far below 2^63
      EXPECT_GT(load.backward, 0) << plan.title();
      EXPECT_LT(load.backward, int64_t{1} << 50) << plan.title();
      ++ranks;
    }
    EXPECT_NEAR(pairs, settings.causal ? all : tokens * tokens * 64, 1e-9 * all) << plan.title();
    // Rows under a window are cut without zigzag: the last of 8 parts of the triangle has 15 / 64 of it.
    const double uneven = settings.sliding_window > 0 ? 1.875 : 1;
    EXPECT_NEAR(imbalance(sequence_loads(plan, settings, model)), uneven, 1e-6) << plan.title();
    const double seconds = estimated_attention_seconds(plan, settings, model, 64);
    EXPECT_TRUE(seconds > 1e6 && seconds < 1e12) << seconds;
  }
  EXPECT_EQ(ranks, 6 * 64);
}

// The same bytes as the run's own arithmetic, which looks at one rank at a time.
TEST(SequenceLoad, BytesAreThoseOfTheLayout) {
  const Words common = {"--sequence_parallel_size", "8", "--cutoff_len", "203"};
  int compared = 0;
  for (const Words& more : std::vector<Words>{
           {"--ulysses_degree", "8"},
           {"--ulysses_degree", "2"},
           {"--ulysses_degree", "4", "--ulysses_chunks", "2"},
           {"--ulysses_degree", "4", "--ulysses_chunks", "9", "--bf16"},
           {"--ulysses_degree", "1", "--per_device_train_batch_size", "3"},
           {"--ulysses_degree", "1", "--cp_window_size", "2", "--causal", "false"},
           {"--ulysses_degree", "2", "--cp_window_size", "2", "--sequence_parallel_order", "ring_inner"},
           {"--ulysses_degree", "2", "--sliding_window", "40", "--bf16"},
           {"--sequence_parallel_method", "kv_allgather"}}) {
    Words words = common;
    words.insert(words.end(), more.begin(), more.end());
    const Settings s = settings_of(words);
    for (const ModelConfig& model : {model_of(9, 3), model_of(28, 4), model_of(8, 8)}) {
      const SequencePlan plan = plan_sequence(s, model, 8);
      const SequenceScheme scheme{plan.ulysses, plan.ring, plan.inner_ring, s.ulysses_chunks,
                                  plan.method == SequenceMethod::kKvAllgather};
      for (const RankLoad& load : sequence_loads(plan, s, model)) {
        const LayerTraffic expected =
            sequence_traffic(model, scheme, s.per_device_train_batch_size, s.cutoff_len, {},
                             dense_rules(s.causal, std::max<int64_t>(0, s.sliding_window)), s.bf16 ? 2 : 4,
                             load.ulysses_index, load.ring_index);
        EXPECT_EQ(load.forward, expected.forward) << plan.title();
        EXPECT_EQ(load.backward, expected.backward) << plan.title();
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 9 * 3 * 8);
}

TEST(SequenceLoad, FormulasOfTheMethods) {
  const ModelConfig model = model_of(8, 2, 16);
  const auto loads_of = [&](const Words& more) {
    Words words = {"--sequence_parallel_size", "4", "--cutoff_len", "64"};
    words.insert(words.end(), more.begin(), more.end());
    const Settings settings = settings_of(words);
    return sequence_loads(plan_sequence(settings, model, 4), settings, model);
  };
  // a share of K and V: 16 tokens x 2 heads x 16 x float32, for both
  const int64_t share = 2 * 16 * 2 * 16 * 4;
  for (const RankLoad& load : loads_of({"--sequence_parallel_method", "ulysses"})) {
    EXPECT_EQ(load.forward, ulysses_traffic(model, 1, 64, 4, 4, load.ulysses_index).forward);
    EXPECT_EQ(load.backward, ulysses_traffic(model, 1, 64, 4, 4, load.ulysses_index).backward);
    EXPECT_EQ(load.repeated, load.forward - 16 * 4 * 2 * 48) << "all but out";
  }
  for (const char* method : {"ring", "kv_allgather"})
    for (const RankLoad& load : loads_of({"--sequence_parallel_method", method, "--causal", "false"})) {
      EXPECT_EQ(load.forward, 3 * share) << method;
      EXPECT_EQ(load.backward, 6 * share) << method;
      EXPECT_EQ(load.repeated, 0) << method;
    }
  // bf16: K and V in two bytes, dK and dV still in four
  EXPECT_EQ(loads_of({"--sequence_parallel_method", "ring", "--causal", "false", "--bf16"})[1].backward,
            3 * share / 2 + 3 * share);
  // ring of 2 x Ulysses 2: one hop of twice the rows and half the heads, and an exchange of 32 rows
  const RankLoad hybrid = loads_of({"--ulysses_degree", "2", "--causal", "false"})[3];
  EXPECT_EQ(hybrid.ring_index, 1);
  EXPECT_EQ(hybrid.ulysses_index, 1);
  EXPECT_EQ(hybrid.forward, share + ulysses_traffic(model, 1, 32, 4, 2, 1).forward);
  // a window reaches into one neighbour's tail: 7 rows of K and V
  const std::vector<RankLoad> window =
      loads_of({"--sequence_parallel_method", "ring", "--sliding_window", "8"});
  EXPECT_EQ(window[0].forward, share * 7 / 16);
  EXPECT_EQ(window[3].forward, 0) << "nothing comes after the last";
}

TEST(SequenceLoad, BalanceOfZigzagAndOfUnevenHeads) {
  const auto imbalance_of = [](const Words& words) {
    const Settings settings = settings_of(words);
    return imbalance(sequence_loads(plan_sequence(settings, model_of(9, 3), 2), settings, model_of(9, 3)));
  };
  EXPECT_NEAR(imbalance_of({"--sequence_parallel_size", "2", "--ulysses_degree", "2"}), 10.0 / 9, 1e-9);
  EXPECT_NEAR(
      imbalance_of({"--sequence_parallel_size", "2", "--ulysses_degree", "1", "--cutoff_len", "4096"}), 1,
      1e-3);
}

TEST(AttentionSettings, SettingsAreOverTheModel) {
  ModelConfig model = model_of(8, 8);
  model.sliding_window = 128;
  model.alibi = true;
  EXPECT_EQ(sliding_window_of(settings_of({}), model), 128);
  EXPECT_EQ(sliding_window_of(settings_of({"--sliding_window", "0"}), model), 0);
  EXPECT_EQ(sliding_window_of(settings_of({"--sliding_window", "7"}), model), 7);
  EXPECT_TRUE(uses_alibi(settings_of({}), model));
  EXPECT_FALSE(uses_alibi(settings_of({"--position_embedding", "rope"}), model));
}

}  // namespace
}  // namespace ithaca
