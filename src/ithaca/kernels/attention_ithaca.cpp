// Memory and threads of the tiled CPU attention. Forward: keys are packed once, then every query tile is a task
// of its own. Backward: queries and keys are cut into C chunks each; in round t, key chunk c meets query chunk
// c + t (mod C), so that no two tasks of a round add to the same gradients, and the order of all sums is fixed
// by the shapes alone: the bits do not depend on the number of threads.
// Shape letters: B batch, S rows of the sequence, H query heads, K kv heads, D head size.
#include "ithaca/kernels/attention_ithaca.h"

#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "ithaca/base/error.h"
#include "ithaca/kernels/attention_cpu.h"

namespace ithaca::attention {
namespace {

constexpr int64_t kMaxChunks = 32;

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

// Scratch memory on a cache line's boundary.
class Memory {
 public:
  explicit Memory(int64_t bytes) : bytes_(at::empty({bytes + 64}, at::kByte)) {
    next_ = static_cast<std::byte*>(bytes_.mutable_data_ptr());
    next_ += -reinterpret_cast<std::intptr_t>(next_) & 63;
  }
  void* take(int64_t bytes) {
    void* p = next_;
    next_ += padded(bytes);
    return p;
  }
  static int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  at::Tensor bytes_;
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
       const AttentionPattern& pattern)
      : kernels(kernels_for(element_of(q.scalar_type()))), held{dense_rows(q), dense_rows(k), dense_rows(v)} {
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

void run_forward(Call& call, const Geometry& geometry, TileSizes sizes) {
  const Kernels& kernels = call.kernels;
  const Problem& p = call.problem;
  struct Task {
    const Unit* unit;
    std::size_t index;  // of the tile or the block
  };
  int64_t bytes = 0;
  for (const Unit& unit : geometry.units)
    bytes += 2 * packed_bytes(kernels, p, geometry.keys[unit.keys].packed_keys);
  Memory memory(bytes);
  std::vector<UnitMemory> packed(geometry.units.size());
  std::vector<Task> packing, tiles;
  std::size_t longest = 0;
  for (std::size_t u = 0; u < geometry.units.size(); ++u) {
    const Unit& unit = geometry.units[u];
    const KeyLayout& keys = geometry.keys[unit.keys];
    packed[u].k_panels = memory.take(packed_bytes(kernels, p, keys.packed_keys));
    packed[u].v_pairs = memory.take(packed_bytes(kernels, p, keys.packed_keys));
    for (std::size_t b = 0; b < keys.blocks.size(); ++b) packing.push_back({&unit, b});
    longest = std::max(longest, unit.tiles.size());
  }
  // Causal tiles grow with their position: the long ones first.
  for (std::size_t i = longest; i-- > 0;)
    for (const Unit& unit : geometry.units)
      if (i < unit.tiles.size()) tiles.push_back({&unit, i});
  const auto memory_of = [&](const Task& task) -> const UnitMemory& {
    return packed[static_cast<std::size_t>(task.unit - geometry.units.data())];
  };
  const int64_t scratch = kernels.scratch(p.D, sizes);
  for_each_task(static_cast<int64_t>(packing.size()), scratch, [&](int64_t i, void* space) {
    const Task& task = packing[static_cast<std::size_t>(i)];
    const KeyLayout& keys = geometry.keys[task.unit->keys];
    const KeyBlock& block = keys.blocks[task.index];
    kernels.pack_keys(p, *task.unit, keys.pieces[static_cast<std::size_t>(block.piece)], block,
                      memory_of(task), /*backward=*/false, space);
  });
  for_each_task(static_cast<int64_t>(tiles.size()), scratch, [&](int64_t i, void* space) {
    const Task& task = tiles[static_cast<std::size_t>(i)];
    kernels.forward(p, *task.unit, geometry.keys[task.unit->keys], task.unit->tiles[task.index],
                    memory_of(task), sizes, space);
  });
}

// The backward of one unit in chunks.
struct UnitBackward {
  const Unit* unit = nullptr;
  const KeyLayout* keys = nullptr;
  UnitMemory memory;
  int64_t chunks = 0;

  int64_t tile_begin(int64_t chunk) const {
    return chunk * static_cast<int64_t>(unit->tiles.size()) / chunks;
  }
  int64_t block_begin(int64_t chunk) const {
    return chunk * static_cast<int64_t>(keys->blocks.size()) / chunks;
  }
};

int64_t backward_bytes(const Kernels& kernels, const Problem& p, const UnitBackward& work) {
  const int64_t row = p.padded_D() * kernels.real, q = work.unit->packed_rows, k = work.keys->packed_keys;
  return 3 * packed_bytes(kernels, p, k) + (kernels.pair == 1 ? 2 : 4) * packed_bytes(kernels, p, q) +
         2 * Memory::padded(q * kernels.real) + Memory::padded(q * row) + 2 * Memory::padded(k * row);
}

UnitMemory take_backward(Memory& memory, const Kernels& kernels, const Problem& p, const UnitBackward& work) {
  const int64_t row = p.padded_D() * kernels.real, q = work.unit->packed_rows, k = work.keys->packed_keys;
  UnitMemory m;
  for (void** keys : {&m.k_panels, &m.k_pairs, &m.v_panels}) *keys = memory.take(packed_bytes(kernels, p, k));
  for (void** rows : {&m.q_rows, &m.dout_rows}) *rows = memory.take(packed_bytes(kernels, p, q));
  m.q_pairs = kernels.pair == 1 ? m.q_rows : memory.take(packed_bytes(kernels, p, q));
  m.dout_pairs = kernels.pair == 1 ? m.dout_rows : memory.take(packed_bytes(kernels, p, q));
  for (void** numbers : {&m.lse, &m.delta}) *numbers = memory.take(q * kernels.real);
  m.dq = memory.take(q * row);
  for (void** sums : {&m.dk, &m.dv}) *sums = memory.take(k * row);
  return m;
}

// Packs queries and keys and clears the sums; or, at the end, writes the sums out.
void prepare_or_write(const Kernels& kernels, const Problem& p, const std::vector<UnitBackward>& works,
                      int64_t scratch, bool write) {
  struct Task {
    const UnitBackward* work;
    const QueryTile* tile;  // null: the block
    const KeyBlock* block;
  };
  std::vector<Task> tasks;
  for (const UnitBackward& work : works) {
    for (const QueryTile& tile : work.unit->tiles) tasks.push_back({&work, &tile, nullptr});
    for (const KeyBlock& block : work.keys->blocks) tasks.push_back({&work, nullptr, &block});
  }
  const int64_t row = p.padded_D() * kernels.real;
  for_each_task(static_cast<int64_t>(tasks.size()), scratch, [&](int64_t i, void* space) {
    const Task& task = tasks[static_cast<std::size_t>(i)];
    const UnitBackward& work = *task.work;
    const auto clear = [&](void* sums, int64_t first, int64_t rows) {
      std::memset(static_cast<std::byte*>(sums) + first * row, 0, static_cast<std::size_t>(rows * row));
    };
    if (task.tile) {
      if (write) {
        kernels.write_dq(p, *work.unit, *task.tile, work.memory);
      } else {
        clear(work.memory.dq, task.tile->packed, task.tile->padded_rows());
        kernels.pack_queries(p, *work.unit, *task.tile, work.memory);
      }
      return;
    }
    const KeyPiece& piece = work.keys->pieces[static_cast<std::size_t>(task.block->piece)];
    if (write) {
      kernels.write_dkdv(p, *work.unit, piece, *task.block, work.memory);
    } else {
      const int64_t filled = (task.block->length + kKeyAlign - 1) / kKeyAlign * kKeyAlign;
      clear(work.memory.dk, piece.packed + task.block->begin, filled);
      clear(work.memory.dv, piece.packed + task.block->begin, filled);
      kernels.pack_keys(p, *work.unit, piece, *task.block, work.memory, /*backward=*/true, space);
    }
  });
}

// Key chunk c against query chunk c + t.
void run_chunk(const Kernels& kernels, const Problem& p, const UnitBackward& work, int64_t c, int64_t t,
               TileSizes sizes, void* space) {
  const int64_t a = (c + t) % work.chunks;
  for (int64_t b = work.block_begin(c); b < work.block_begin(c + 1); ++b) {
    const KeyBlock& block = work.keys->blocks[static_cast<std::size_t>(b)];
    for (int64_t i = work.tile_begin(a); i < work.tile_begin(a + 1); ++i) {
      const QueryTile& tile = work.unit->tiles[static_cast<std::size_t>(i)];
      if (b < tile.block_begin || b >= tile.block_end) continue;
      kernels.backward(p, work.keys->pieces[static_cast<std::size_t>(block.piece)], block, tile, work.memory,
                       sizes, space);
    }
  }
}

void run_backward(Call& call, const std::vector<UnitBackward>& works, TileSizes sizes) {
  const Kernels& kernels = call.kernels;
  const Problem& p = call.problem;
  const int64_t scratch = kernels.scratch(p.D, sizes);
  prepare_or_write(kernels, p, works, scratch, /*write=*/false);
  struct Task {
    const UnitBackward* work;
    int64_t chunk;
  };
  for (int64_t t = 0; t < kMaxChunks; ++t) {
    std::vector<Task> tasks;
    for (const UnitBackward& work : works)
      for (int64_t c = 0; c < work.chunks && t < work.chunks; ++c) tasks.push_back({&work, c});
    if (tasks.empty()) break;
    for_each_task(static_cast<int64_t>(tasks.size()), scratch, [&](int64_t i, void* space) {
      const Task& task = tasks[static_cast<std::size_t>(i)];
      run_chunk(kernels, p, *task.work, task.chunk, t, sizes, space);
    });
  }
  prepare_or_write(kernels, p, works, scratch, /*write=*/true);
}

struct BackwardCall : Call {
  TileSizes sizes;
  Geometry geometry;

  BackwardCall(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
               const at::Tensor& out, const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
               const HeadRange& heads, const AttentionPattern& pattern)
      : Call(q, k, v, heads, pattern),
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
    // As many units at a time as keep the threads busy: memory grows with them.
    std::vector<std::vector<UnitBackward>> groups;
    int64_t chunks = 0;
    for (const Unit& unit : geometry.units) {
      const KeyLayout& keys = geometry.keys[unit.keys];
      if (groups.empty() || chunks >= 8 * at::get_num_threads()) {
        groups.emplace_back();
        chunks = 0;
      }
      groups.back().push_back({&unit,
                               &keys,
                               {},
                               std::min({kMaxChunks, static_cast<int64_t>(unit.tiles.size()),
                                         static_cast<int64_t>(keys.blocks.size())})});
      chunks += groups.back().back().chunks;
    }
    int64_t most = 0;
    for (const std::vector<UnitBackward>& works : groups) {
      int64_t bytes = 0;
      for (const UnitBackward& work : works) bytes += backward_bytes(kernels, problem, work);
      most = std::max(most, bytes);
    }
    const Memory whole(most);
    for (std::vector<UnitBackward>& works : groups) {
      Memory memory = whole;
      for (UnitBackward& work : works) work.memory = take_backward(memory, kernels, problem, work);
      run_backward(*this, works, sizes);
    }
  }
};

}  // namespace

AttentionOutput forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Rows& q_rows,
                        const Rows& k_rows, const HeadRange& heads, const AttentionPattern& pattern) {
  Call call(q, k, v, heads, pattern);
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
  run_forward(call, geometry, sizes);
  return result;
}

void forward_add(AttentionOutput& total, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const Rows& q_rows, const Rows& k_rows, const HeadRange& heads,
                 const AttentionPattern& pattern) {
  Call call(q, k, v, heads, pattern);
  const TileSizes sizes = call.kernels.forward_sizes(q.size(3));
  const Geometry geometry = make_geometry(pattern, q.size(0), q_rows, k_rows, heads, sizes.rows, sizes.keys);
  call.problem.total_out = total.out.mutable_data_ptr();
  call.problem.lse = total.lse.mutable_data_ptr();
  run_forward(call, geometry, sizes);
}

AttentionGrads backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, const Rows& q_rows, const Rows& k_rows,
                        const HeadRange& heads, const AttentionPattern& pattern) {
  BackwardCall call(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern);
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
                  const Rows& k_rows, const HeadRange& heads, const AttentionPattern& pattern) {
  BackwardCall(dout, q, k, v, out, lse, q_rows, k_rows, heads, pattern).run(total);
}

}  // namespace ithaca::attention
