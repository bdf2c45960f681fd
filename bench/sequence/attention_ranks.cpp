// Attention forward and backward among ranks that are processes of one machine, timed: one line of JSON from
// rank 0. attention.py runs it in turn with the peers.
//   attention_ranks METHOD RANKS THREADS TOKENS float32|bf16 HEADS KV_HEADS HEAD_SIZE STEPS
// METHOD: local (one rank), ulysses, ring, hybrid, double_ring, kv_allgather. Causal, batch 1. A step of 1,024
// tokens goes before and is not counted. A step is timed on rank 0 from barrier to barrier.
#include <ATen/Parallel.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "bench/sequence/method.h"
#include "ithaca/comm/process_world.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/launch/environment.h"
#include "ithaca/launch/spawn.h"

namespace ithaca::bench {
namespace {

constexpr int64_t kWarmupTokens = 1024;
constexpr const char* kUsage =
    "expected METHOD RANKS THREADS TOKENS float32|bf16 HEADS KV_HEADS HEAD_SIZE STEPS; local has one rank, "
    "hybrid "
    "and double_ring an even number from 4 on";

struct Arguments {
  std::string method;
  int ranks, threads;
  int64_t tokens;
  at::ScalarType dtype;
  int64_t heads, kv_heads, head_dim, steps;

  explicit Arguments(const std::vector<std::string>& words)
      : method(words.at(0)),
        ranks(std::stoi(words.at(1))),
        threads(std::stoi(words.at(2))),
        tokens(std::stol(words.at(3))),
        dtype(words.at(4) == "bf16" ? at::kBFloat16 : at::kFloat),
        heads(std::stol(words.at(5))),
        kv_heads(std::stol(words.at(6))),
        head_dim(std::stol(words.at(7))),
        steps(std::stol(words.at(8))) {
    if ((words[4] != "bf16" && words[4] != "float32") || threads < 1 || tokens < ranks || steps < 1 ||
        (method == "local") != (ranks == 1) || (ranks > 1 && !fits(method, ranks)))
      throw UserError(kUsage);
  }
};

// Seconds of each step.
std::vector<double> time_steps(const Arguments& a, DeviceMesh& mesh, const AttentionCore& core,
                               int64_t tokens, int64_t steps) {
  AttentionPattern pattern;
  pattern.sequence_length = tokens;
  const SequenceLayout layout(sequence_grid(mesh.degrees()), pattern, 1, tokens);
  const int64_t rows = layout.count(mesh.sequence().rank());
  const auto random = [&](int64_t heads) { return at::randn({1, rows, heads, a.head_dim}).to(a.dtype); };
  const at::Tensor q = random(a.heads).requires_grad_(true), k = random(a.kv_heads).requires_grad_(true),
                   v = random(a.kv_heads).requires_grad_(true), dout = random(a.heads);
  std::vector<double> seconds;
  for (int64_t step = 0; step < steps; ++step) {
    for (const at::Tensor* t : {&q, &k, &v}) t->mutable_grad() = at::Tensor();
    mesh.world().barrier();
    const auto start = std::chrono::steady_clock::now();
    const at::Tensor out = core(q, k, v, HeadRange::all(a.heads, a.kv_heads), pattern);
    torch::autograd::backward({out}, {dout});
    mesh.world().barrier();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return seconds;
}

void time_and_print(const Arguments& a, Communicator& world, const std::string& transport) {
  const ParallelPlan plan = a.ranks == 1 ? ParallelPlan{} : plan_of(a.method, a.ranks);
  DeviceMesh mesh(world, plan.degrees);
  const AttentionCore core =
      sequence_attention(mesh.group(Axis::kUlysses), mesh.group(Axis::kRing), plan.attention);
  time_steps(a, mesh, core, std::min(a.tokens, kWarmupTokens), 1);
  std::string text;
  for (const double seconds : time_steps(a, mesh, core, a.tokens, a.steps))
    text += str(text.empty() ? "" : ", ", seconds);
  if (world.rank() == 0)
    std::printf("{\"seconds\": [%s], \"transport\": \"%s\"}\n", text.c_str(), transport.c_str());
}

void run_rank(const Arguments& a) {
  at::set_num_threads(a.threads);
  const RankEnvironment environment = read_rank_environment();
  if (environment.world_size == 1) return time_and_print(a, *single_rank_world(), "none");
  ProcessWorldOptions options;
  options.ranks = environment;
  const auto world = ProcessWorld::connect(options);
  time_and_print(a, world->world(), world->transport());
  world->finish();
}

}  // namespace
}  // namespace ithaca::bench

int main(int argc, char** argv) {
  using namespace ithaca;
  try {
    if (argc != 10) throw UserError(bench::kUsage);
    const std::vector<std::string> words(argv + 1, argv + argc);
    const bench::Arguments arguments(words);
    if (std::getenv("ITHACA_SPAWNED")) {
      bench::run_rank(arguments);
      return 0;
    }
    SpawnOptions options;
    options.nproc = arguments.ranks;
    options.threads_per_rank = arguments.threads;
    options.program = std::filesystem::read_symlink("/proc/self/exe");
    options.arguments = words;
    return spawn_ranks(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    write_elastic_error(error.what());
    return 2;
  }
}
