// Activation memory of a rank in one training step, by method, number of ranks and form of activation
// checkpointing, at the same total length; beside data parallelism, where every rank has a sequence of that length.
// Ranks are threads; every byte that libtorch's CPU allocator gives a rank's thread is counted until it is freed.
// A figure is the peak of a step above what the rank held before it (weights, gradients, optimizer). Prints
// markdown.
//   memory_bench [tokens [hidden size [layers]]]
#include <ATen/ops/arange.h>
#include <ATen/ops/randint.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include "bench/sequence/method.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/models/registry.h"
#include "ithaca/parallel/apply.h"
#include "ithaca/train/step.h"

namespace ithaca::bench {
namespace {

constexpr int64_t kVocabulary = 257, kWarmupTokens = 64;

// What the ranks hold. A buffer that travels between ranks may be freed by the thread of another: it is taken from
// the rank that allocated it.
class Ledger {
 public:
  struct Account {
    int64_t now = 0, base = 0, peak = 0;
  };
  void allocated(Account& account, void* pointer, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    owners_[pointer] = &account;
    account.now += bytes;
    account.peak = std::max(account.peak, account.now);
  }
  void freed(void* pointer, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (const auto owner = owners_.extract(pointer)) owner.mapped()->now -= bytes;
  }
  void restart(Account& account) {
    const std::lock_guard lock(mutex_);
    account.base = account.peak = account.now;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<void*, Account*> owners_;
};

// Told by libtorch's CPU allocator what the thread that installed it allocates and frees.
class Reporter : public c10::MemoryReportingInfoBase {
 public:
  Reporter(Ledger& ledger, Ledger::Account& account) : ledger_(ledger), account_(account) {}
  void reportMemoryUsage(void* pointer, int64_t bytes, size_t, size_t, c10::Device) override {
    if (bytes > 0) {
      ledger_.allocated(account_, pointer, bytes);
    } else {
      ledger_.freed(pointer, -bytes);
    }
  }
  bool memoryProfilingEnabled() const override { return true; }

 private:
  Ledger& ledger_;
  Ledger::Account& account_;
};

struct Job {
  int64_t tokens = 8192, hidden = 256, layers = 4;
};

ModelConfig model_config(const Job& job) {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.model_type = "llama";
  config.vocab_size = kVocabulary;
  config.hidden_size = job.hidden;
  config.intermediate_size = job.hidden * 8 / 3 / 16 * 16;
  config.num_hidden_layers = job.layers;
  config.num_attention_heads = config.num_key_value_heads = 8;
  config.head_dim = job.hidden / 8;
  config.max_position_embeddings = 1 << 20;
  config.tie_word_embeddings = true;
  config.initializer_range = 0.02;
  return config;
}

Batch random_batch(int64_t tokens) {
  Batch batch;
  batch.input_ids = at::randint(kVocabulary, {1, tokens}, at::kLong);
  batch.labels = batch.input_ids.roll({-1}, {1});
  batch.labels[0][tokens - 1] = kNoLabel;
  batch.position_ids = at::arange(tokens, at::kLong).unsqueeze(0);
  batch.documents = {{0, tokens}};
  batch.num_tokens = tokens;
  batch.num_labels = tokens - 1;
  return batch;
}

int64_t activation_bytes(Communicator& world, const ParallelPlan& plan, const Job& job, Ledger& ledger,
                         Ledger::Account& account) {
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE,
                                  std::make_shared<Reporter>(ledger, account));
  DeviceMesh mesh(world, plan.degrees);
  const std::unique_ptr<Decoder> decoder = build_decoder(model_config(job), at::kBFloat16);
  initialize_weights(*decoder, 1);
  const std::shared_ptr<PlanCache> plans = apply_parallelism(*decoder, plan, mesh);
  ParameterShards shards(decoder->parameters(), mesh.sequence_data());
  Optimizer optimizer({}, shards.entries());
  const auto step = [&](const Batch& batch) {
    train_step(*decoder, *plans, shards, optimizer, mesh, {batch}, 1e-4, {});
  };
  step(random_batch(kWarmupTokens));
  const Batch batch = random_batch(job.tokens);
  world.barrier();  // nobody works on a step of before
  ledger.restart(account);
  step(batch);
  return account.peak - account.base;
}

// Of the rank with the most, MB (2^20 bytes).
double megabytes(const ParallelPlan& plan, const Job& job) {
  Ledger ledger;
  std::vector<Ledger::Account> accounts(plan.degrees.world());
  std::vector<int64_t> bytes(plan.degrees.world());
  run_thread_ranks(
      plan.degrees.world(),
      [&](Communicator& world) {
        bytes[world.rank()] = activation_bytes(world, plan, job, ledger, accounts[world.rank()]);
      },
      std::chrono::minutes(30));
  return static_cast<double>(*std::ranges::max_element(bytes)) / (1 << 20);
}

void print_table(CheckpointMode mode, const char* name, const Job& job) {
  std::printf(
      "\ngradient_checkpointing: %s\n\n| method | 1 rank | 2 | 4 | 8 | above 1.1 / P of 1 rank, at most "
      "|\n|---|---|---|---|---|---|\n",
      name);
  ParallelPlan single;
  single.activation_checkpoint = mode;
  const double whole = megabytes(single, job);
  std::vector<std::string> names = kMethods;
  names.emplace_back("data parallel alone");
  for (const std::string& method : names) {
    const bool data = method == names.back();
    std::printf("| %s | %.2f |", method.c_str(), whole);
    double excess = 0;
    for (const int ranks : {2, 4, 8}) {
      if (!data && !fits(method, ranks)) {
        std::printf(" - |");
        continue;
      }
      ParallelPlan plan = data ? ParallelPlan{} : plan_of(method, ranks);
      if (data) plan.degrees.data = ranks;
      plan.activation_checkpoint = mode;
      const double share = megabytes(plan, job);
      excess = std::max(excess, share - 1.1 * whole / ranks);
      std::printf(" %.2f |", share);
      std::fflush(stdout);
    }
    if (data) {
      std::printf(" |\n");
    } else {
      std::printf(" %.2f |\n", excess);
    }
  }
}

}  // namespace
}  // namespace ithaca::bench

int main(int argc, char** argv) {
  using namespace ithaca;
  using namespace ithaca::bench;
  Job job;
  if (argc > 1) job.tokens = std::atol(argv[1]);
  if (argc > 2) job.hidden = std::atol(argv[2]);
  if (argc > 3) job.layers = std::atol(argv[3]);
  std::printf(
      "%ld tokens, %ld layers, hidden %ld, 8 heads, bfloat16: MB that a step holds at its peak above what "
      "the "
      "rank held before, the rank with the most\n",
      job.tokens, job.layers, job.hidden);
  print_table(CheckpointMode::kNone, "false", job);
  print_table(CheckpointMode::kFull, "full", job);
  print_table(CheckpointMode::kKeepAttention, "keep_attention", job);
}
