// Memory and threads of the tiled CPU attention. A unit is one kv head of one document: small units run whole on
// one thread, large ones are shared out part by part. Forward: the keys are packed, then every query tile is a
// part. Backward: queries and keys are cut into C chunks each; in round t, key chunk c meets query chunk c + t
// (mod C), so that no two parts of a round add to the same gradients. The order of all sums is fixed by the
// shapes alone: the bits do not depend on the number of threads.
// Shape letters: B batch, S rows of the sequence, H query heads, K kv heads, D head size.
#include "ithaca/kernels/attention_ithaca.h"

#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "ithaca/base/error.h"
#include "ithaca/kernels/attention_cpu.h"

namespace ithaca::attention {
namespace {

// Chunks of the backward: of about 2,048 rows, so that what two of them share stays near (256 rows a chunk take 12 %
// longer at 8,192 tokens), and never so few that threads have nothing to do.
constexpr int64_t kChunkRows = 2048, kMinChunks = 4, kMaxChunks = 32;

Element element_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return Element::kFloat;
    case at::kDouble:
      return Element::kDouble;
    case at::kBFloat16:
      return Element::kBFloat16;
    case at::kHalf:
      return Element::kHalf;
    default:
      throw UserError(ithaca::str("attention: ithaca takes float32, float64, bfloat16 and float16, not ",
                                  type, ". Use attention: naive"));
  }
}

// A tensor whose last dim is contiguous, alive as long as the view is used.
at::Tensor dense_rows(const at::Tensor& t) {
  return t.stride(-1) == 1 || t.size(-1) == 1 ? t : t.contiguous();
}
View view_of(const at::Tensor& t) {
  return {t.const_data_ptr(), t.stride(0), t.stride(1), t.stride(2)};
}

// Hands out memory on cache lines' boundaries.
class Memory {
 public:
  explicit Memory(int64_t bytes) : owned_(at::empty({bytes + 64}, at::kByte)) {
    next_ = static_cast<std::byte*>(owned_.mutable_data_ptr());
    next_ += -reinterpret_cast<std::intptr_t>(next_) & 63;
  }
  explicit Memory(std::byte* borrowed) : next_(borrowed) {}
  void* take(int64_t bytes) {
    void* p = next_;
    next_ += padded(bytes);
    return p;
  }
  static int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  at::Tensor owned_;
  std::byte* next_;
};

// Calls f(task, scratch) for every task, in any order, each thread with scratch of its own.
template <class F>
void for_each_task(int64_t tasks, int64_t scratch_bytes, F f) {
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), tasks);
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    Memory memory(scratch_bytes);
    void* scratch = memory.take(scratch_bytes);
    for (int64_t i = next++; i < tasks; i = next++) f(i, scratch);
  });
}

struct Call {
  const Kernels& kernels;
  Problem problem;
  std::vector<double> slopes;
  std::vector<at::Tensor> held;  // what the views point to

  Call(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const HeadRange& heads,
       const AttentionPattern& pattern, CpuTier tier)
      : kernels(kernels_for(element_of(q.scalar_type()), tier)),
        held{dense_rows(q), dense_rows(k), dense_rows(v)} {
    problem.D = q.size(3);
    problem.scale = pattern.scale != 0 ? pattern.scale : 1 / std::sqrt(static_cast<double>(q.size(3)));
    problem.pattern = &pattern;
    if (!pattern.alibi_slopes.empty()) {
      slopes.assign(pattern.alibi_slopes.begin() + heads.q_begin,
                    pattern.alibi_slopes.begin() + heads.q_begin + heads.q_count);
      problem.slopes = slopes.data();
    }
    problem.q = view_of(held[0]);
    problem.k = view_of(held[1]);
    problem.v = view_of(held[2]);
    problem.q_size = q.size(1);
    problem.k_size = k.size(1);
    problem.q_heads = q.size(2);
    problem.kv_heads = k.size(2);
  }
};

// Bytes of the packed arrays of `rows` rows or keys.
int64_t packed_bytes(const Kernels& kernels, const Problem& p, int64_t rows) {
  return Memory::padded(rows * p.padded_D() / kernels.pair * kernels.word);
}

// One unit and its packed arrays.
struct Work {
  const Unit* unit = nullptr;
  const KeyLayout* keys = nullptr;
  UnitMemory memory;
  int64_t chunks = 0;  // of the backward

  int64_t tiles() const { return static_cast<int64_t>(unit->tiles.size()); }
  int64_t blocks() const { return static_cast<int64_t>(keys->blocks.size()); }
  const QueryTile& tile(int64_t i) const { return unit->tiles[static_cast<std::size_t>(i)]; }
  const KeyBlock& block(int64_t i) const { return keys->blocks[static_cast<std::size_t>(i)]; }
  const KeyPiece& piece(const KeyBlock& block) const {
    return keys->pieces[static_cast<std::size_t>(block.piece)];
  }
  // Pairs of rows and keys, the forbidden ones too.
  double size() const {
    return static_cast<double>(unit->packed_rows) * static_cast<double>(keys->packed_keys);
  }
};

// Calls f(work, i, scratch) for i below count(work), through `run`.
template <class Run, class Count, class F>
void for_each_part(const std::vector<Work>& works, const Run& run, Count count, F f) {
  struct Part {
    const Work* work;
    int64_t index;
  };
  std::vector<Part> parts;
  for (const Work& work : works)
    for (int64_t i = 0, n = count(work); i < n; ++i) parts.push_back({&work, i});
  run(static_cast<int64_t>(parts.size()), [&](int64_t i, void* scratch) {
    const Part& part = parts[static_cast<std::size_t>(i)];
    f(*part.work, part.index, scratch);
  });
}

class Forward {
 public:
  Forward(const Kernels& kernels, const Problem& problem, TileSizes sizes)
      : kernels_(kernels), problem_(problem), sizes_(sizes) {}

  int64_t tasks(const Work& work) const { return work.tiles(); }
  int64_t bytes(const Work& work) const {
    return 2 * packed_bytes(kernels_, problem_, work.keys->packed_keys);
  }
  void take(Work& work, Memory& memory) const {
    for (void** keys : {&work.memory.k_panels, &work.memory.v_pairs})
      *keys = memory.take(packed_bytes(kernels_, problem_, work.keys->packed_keys));
  }
  template <class Run>
  void run(const std::vector<Work>& works, const Run& run) const {
    const Problem& p = problem_;
    for_each_part(
        works, run, [](const Work& work) { return work.blocks(); },
        [&](const Work& work, int64_t i, void* scratch) {
          const KeyBlock& block = work.block(i);
          kernels_.pack_keys(p, *work.unit, work.piece(block), block, work.memory, /*backward=*/false,
                             scratch);
        });
    for_each_part(
        works, run, [](const Work& work) { return work.tiles(); },
        [&](const Work& work, int64_t i, void* scratch) {
          // Causal tiles grow with their position: the long ones first.
          kernels_.forward(p, *work.unit, *work.keys, work.tile(work.tiles() - 1 - i), work.memory, sizes_,
                           scratch);
        });
  }

 private:
  const Kernels& kernels_;
  const Problem& problem_;
  TileSizes sizes_;
};

class Backward {
 public:
  Backward(const Kernels& kernels, const Problem& problem, TileSizes sizes)
      : kernels_(kernels), problem_(problem), sizes_(sizes) {}

  int64_t tasks(const Work& work) const { return work.chunks; }
  int64_t bytes(const Work& work) const {
    const int64_t row = row_bytes(), q = work.unit->packed_rows, k = work.keys->packed_keys;
    return 3 * packed_bytes(kernels_, problem_, k) +
           (kernels_.pair == 1 ? 2 : 4) * packed_bytes(kernels_, problem_, q) +
           2 * Memory::padded(q * kernels_.real) + Memory::padded(q * row) + 2 * Memory::padded(k * row);
  }
  void take(Work& work, Memory& memory) const {
    const int64_t row = row_bytes(), q = work.unit->packed_rows, k = work.keys->packed_keys;
    UnitMemory& m = work.memory;
    for (void** keys : {&m.k_panels, &m.k_pairs, &m.v_panels})
      *keys = memory.take(packed_bytes(kernels_, problem_, k));
    for (void** rows : {&m.q_rows, &m.dout_rows}) *rows = memory.take(packed_bytes(kernels_, problem_, q));
    m.q_pairs = kernels_.pair == 1 ? m.q_rows : memory.take(packed_bytes(kernels_, problem_, q));
    m.dout_pairs = kernels_.pair == 1 ? m.dout_rows : memory.take(packed_bytes(kernels_, problem_, q));
    for (void** numbers : {&m.lse, &m.delta}) *numbers = memory.take(q * kernels_.real);
    m.dq = memory.take(q * row);
    for (void** sums : {&m.dk, &m.dv}) *sums = memory.take(k * row);
  }
  template <class Run>
  void run(const std::vector<Work>& works, const Run& run) const {
    const auto tiles = [](const Work& work) { return work.tiles(); };
    const auto blocks = [](const Work& work) { return work.blocks(); };
    for_each_part(works, run, tiles,
                  [&](const Work& work, int64_t i, void*) { prepare(work, work.tile(i)); });
    for_each_part(works, run, blocks,
                  [&](const Work& work, int64_t i, void* scratch) { prepare(work, work.block(i), scratch); });
    int64_t rounds = 0;
    for (const Work& work : works) rounds = std::max(rounds, work.chunks);
    for (int64_t t = 0; t < rounds; ++t)
      for_each_part(
          works, run, [&](const Work& work) { return t < work.chunks ? work.chunks : 0; },
          [&](const Work& work, int64_t c, void* scratch) { meet(work, c, (c + t) % work.chunks, scratch); });
    for_each_part(works, run, tiles, [&](const Work& work, int64_t i, void*) {
      kernels_.write_dq(problem_, *work.unit, work.tile(i), work.memory);
    });
    for_each_part(works, run, blocks, [&](const Work& work, int64_t i, void*) {
      const KeyBlock& block = work.block(i);
      kernels_.write_dkdv(problem_, *work.unit, work.piece(block), block, work.memory);
    });
  }

 private:
  int64_t row_bytes() const { return problem_.padded_D() * kernels_.real; }
  void clear(void* sums, int64_t first, int64_t rows) const {
    std::memset(static_cast<std::byte*>(sums) + first * row_bytes(), 0,
                static_cast<std::size_t>(rows * row_bytes()));
  }
  void prepare(const Work& work, const QueryTile& tile) const {
    clear(work.memory.dq, tile.packed, tile.padded_rows());
    kernels_.pack_queries(problem_, *work.unit, tile, work.memory);
  }
  void prepare(const Work& work, const KeyBlock& block, void* scratch) const {
    const KeyPiece& piece = work.piece(block);
    const int64_t filled = (block.length + kKeyAlign - 1) / kKeyAlign * kKeyAlign;
    clear(work.memory.dk, piece.packed + block.begin, filled);
    clear(work.memory.dv, piece.packed + block.begin, filled);
    kernels_.pack_keys(problem_, *work.unit, piece, block, work.memory, /*backward=*/true, scratch);
  }
  // Key chunk c against query chunk a.
  void meet(const Work& work, int64_t c, int64_t a, void* scratch) const {
    for (int64_t b = c * work.blocks() / work.chunks; b < (c + 1) * work.blocks() / work.chunks; ++b)
      for (int64_t i = a * work.tiles() / work.chunks; i < (a + 1) * work.tiles() / work.chunks; ++i)
        kernels_.backward(problem_, work.piece(work.block(b)), work.block(b), work.tile(i), work.memory,
                          sizes_, scratch);
  }

  const Kernels& kernels_;
  const Problem& problem_;
  TileSizes sizes_;
};

// Small units whole, each on one thread, where its arrays stay in the cache; the others together, part by
// part. The order of sums is the same either way.
template <class Direction>
void run_units(const Direction& direction, const Geometry& geometry, int64_t scratch_bytes) {
  const int64_t threads = at::get_num_threads();
  double total = 0;
  std::vector<Work> works;
  for (const Unit& unit : geometry.units) {
    Work work{&unit, &geometry.keys[unit.keys], {}, 0};
    const int64_t rows = std::max(unit.packed_rows, work.keys->packed_keys);
    work.chunks =
        std::min({std::clamp(rows / kChunkRows, kMinChunks, kMaxChunks), work.tiles(), work.blocks()});
    works.push_back(work);
    total += work.size();
  }
  // Groups of as many units as keep the threads busy: memory grows with them.
  std::vector<std::vector<Work>> groups;
  std::vector<Work> small;
  int64_t small_bytes = 0, group_bytes = 0, bytes = 0, tasks = 0;
  for (const Work& work : works) {
    if (threads == 1 || work.size() * static_cast<double>(16 * threads) <= total) {
      small.push_back(work);
      small_bytes = std::max(small_bytes, direction.bytes(work));
      continue;
    }
    if (groups.empty() || tasks >= 8 * threads) {
      groups.emplace_back();
      tasks = bytes = 0;
    }
    groups.back().push_back(work);
    tasks += direction.tasks(work);
    bytes += direction.bytes(work);
    group_bytes = std::max(group_bytes, bytes);
  }
  const Memory shared(group_bytes);
  for (std::vector<Work>& group : groups) {
    Memory memory = shared;
    for (Work& work : group) direction.take(work, memory);
    direction.run(group, [&](int64_t n, const auto& f) { for_each_task(n, scratch_bytes, f); });
  }
  scratch_bytes = Memory::padded(scratch_bytes);
  for_each_task(static_cast<int64_t>(small.size()), scratch_bytes + small_bytes, [&](int64_t i, void* space) {
    Memory memory(static_cast<std::byte*>(space) + scratch_bytes);
    std::vector<Work> one{small[static_cast<std::size_t>(i)]};
    direction.take(one[0], memory);
    direction.run(one, [&](int64_t n, const auto& f) {
      for (int64_t part = 0; part < n; ++part) f(part, space);
    });
  });
}

struct BackwardCall : Call {
  TileSizes sizes;
  Geometry geometry;

  BackwardCall(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
               const at::Tensor& out, const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
               const HeadRange& heads, const AttentionPattern& pattern, CpuTier tier)
      : Call(q, k, v, heads, pattern, tier),
        sizes(kernels.backward_sizes(problem.D)),
        geometry(make_geometry(pattern, q.size(0), q_rows, k_rows, heads, sizes.rows, sizes.keys)) {
    for (const at::Tensor& t : {dense_rows(dout), dense_rows(out), lse.contiguous()}) held.push_back(t);
    problem.dout = view_of(held[3]);
    problem.out = view_of(held[4]);
    problem.lse = const_cast<void*>(held[5].const_data_ptr());  // only read in the backward
  }

  void run(AttentionGrads& grads) {
    problem.total_dq = grads.dq.mutable_data_ptr();
    problem.total_dk = grads.dk.mutable_data_ptr();
    problem.total_dv = grads.dv.mutable_data_ptr();
    run_units(Backward(kernels, problem, sizes), geometry, kernels.scratch(problem.D, sizes));
  }
};

}  // namespace

AttentionOutput forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Rows& q_rows,
                        const Rows& k_rows, const HeadRange& heads, const AttentionPattern& pattern,
                        CpuTier tier) {
  Call call(q, k, v, heads, pattern, tier);
  const TileSizes sizes = call.kernels.forward_sizes(q.size(3));
  const Geometry geometry = make_geometry(pattern, q.size(0), q_rows, k_rows, heads, sizes.rows, sizes.keys);
  const auto acc = q.options().dtype(at::toOpMathType(q.scalar_type()));
  const std::vector<int64_t> lse_sizes{q.size(0), q.size(2), q.size(1)};
  AttentionOutput result;
  if (geometry.covers_queries) {
    result = {at::empty(q.sizes(), q.options()), at::empty(lse_sizes, acc)};
  } else {
    result = {at::zeros(q.sizes(), q.options()),
              at::full(lse_sizes, -std::numeric_limits<double>::infinity(), acc)};
  }
  call.problem.new_out = result.out.mutable_data_ptr();
  call.problem.lse = result.lse.mutable_data_ptr();
  run_units(Forward(call.kernels, call.problem, sizes), geometry, call.kernels.scratch(q.size(3), sizes));
  return result;
}

void forward_add(AttentionOutput& total, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                 const AttentionPattern& pattern, CpuTier tier) {
  Call call(q, k, v, heads, pattern, tier);
  const TileSizes sizes = call.kernels.forward_sizes(q.size(3));
  const Geometry geometry = make_geometry(pattern, q.size(0), q_rows, k_rows, heads, sizes.rows, sizes.keys);
  call.problem.total_out = total.out.mutable_data_ptr();
  call.problem.lse = total.lse.mutable_data_ptr();
  run_units(Forward(call.kernels, call.problem, sizes), geometry, call.kernels.scratch(q.size(3), sizes));
}

AttentionGrads backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
                        const HeadRange& heads, const AttentionPattern& pattern, CpuTier tier) {
  BackwardCall call(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern, tier);
  const auto acc = q.options().dtype(at::toOpMathType(q.scalar_type()));
  call.problem.fresh = call.geometry.covers_queries && call.geometry.covers_keys;
  const auto make = [&](const at::Tensor& like) {
    return call.problem.fresh ? at::empty(like.sizes(), acc) : at::zeros(like.sizes(), acc);
  };
  AttentionGrads grads{make(q), make(k), make(v)};
  call.run(grads);
  return grads;
}

void backward_add(AttentionGrads& total, const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                  const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, const Rows& q_rows,
                  const Rows& k_rows, const HeadRange& heads, const AttentionPattern& pattern, CpuTier tier) {
  BackwardCall(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern, tier).run(total);
}

}  // namespace ithaca::attention
