// The arithmetic of the tiled CPU attention (FlashAttention-2, Dao 2023, arXiv 2307.08691): raw pointers, one
// thread a call, no torch. attention_ithaca.cpp owns memory and threads.
// Shape letters: B batch, S rows of the sequence, H query heads, K kv heads, D head size; Dp: D filled up
// with zeros to a multiple of kColumnAlign.
//
// A word is what one multiplication takes: a float32 or float64 value, or a pair of bf16 values that lie one
// after the other in the direction of the sum. Packed arrays, W = Dp / pair words a row:
//   rows   [row][W]               pairs along D: left factor of Q K^T and dO V^T
//   pairs  [row / pair][Dp]       pairs along rows: right factor of P V, P^T dO, dS^T Q, dS K
//   panels [panel][W][panel keys] pairs along D, transposed: right factor of Q K^T and dO V^T
// With one value a word, rows and pairs are the same array.
#pragma once
#include <cstddef>
#include <cstdint>

#include "ithaca/base/cpu.h"
#include "ithaca/kernels/attention_tiles.h"

namespace ithaca::attention {

constexpr int64_t kColumnAlign = 16;

enum class Element { kFloat, kDouble, kBFloat16, kHalf };

// [B, S, heads, D]; strides in elements, the last one 1.
struct View {
  const void* data = nullptr;
  int64_t batch = 0, row = 0, head = 0;
};

struct Problem {
  int64_t D = 0;
  double scale = 1;
  const AttentionPattern* pattern = nullptr;
  const double* slopes = nullptr;  // of the local query heads; null: no ALiBi
  View q, k, v, out, dout;         // out, dout: of the backward
  int64_t q_size = 0, k_size = 0, q_heads = 0, kv_heads = 0;
  // Contiguous results. new_out in q's type; total_* in real: [B, S, heads, D], added to; one of the two.
  void* new_out = nullptr;
  void *total_out = nullptr, *total_dq = nullptr, *total_dk = nullptr, *total_dv = nullptr;
  bool fresh = false;   // total_dq, dk, dv are written, not added to
  void* lse = nullptr;  // [B, H, S] real; of total_out in and out, of new_out out, of the backward in

  int64_t padded_D() const { return (D + kColumnAlign - 1) / kColumnAlign * kColumnAlign; }
};

// Packed arrays of one unit. Forward: k_panels, v_pairs. Backward: all.
struct UnitMemory {
  void *k_panels = nullptr, *k_pairs = nullptr, *v_panels = nullptr, *v_pairs = nullptr;
  void *q_rows = nullptr, *q_pairs = nullptr, *dout_rows = nullptr, *dout_pairs = nullptr;
  void *lse = nullptr, *delta = nullptr;             // real, one a row
  void *dq = nullptr, *dk = nullptr, *dv = nullptr;  // real [row][Dp]
};

struct TileSizes {
  int64_t rows = 0, keys = 0;
};

struct Kernels {
  int64_t word = 0, real = 0, pair = 0;  // bytes, bytes, values a word
  TileSizes (*forward_sizes)(int64_t D);
  TileSizes (*backward_sizes)(int64_t D);
  int64_t (*scratch)(int64_t D, TileSizes sizes);  // bytes a thread needs
  void (*pack_keys)(const Problem&, const Unit&, const KeyPiece&, const KeyBlock&, const UnitMemory&,
                    bool backward, void* scratch);
  void (*forward)(const Problem&, const Unit&, const KeyLayout&, const QueryTile&, const UnitMemory&,
                  TileSizes sizes, void* scratch);
  void (*pack_queries)(const Problem&, const Unit&, const QueryTile&, const UnitMemory&);
  void (*backward)(const Problem&, const KeyPiece&, const KeyBlock&, const QueryTile&, const UnitMemory&,
                   TileSizes sizes, void* scratch);
  void (*write_dq)(const Problem&, const Unit&, const QueryTile&, const UnitMemory&);
  void (*write_dkdv)(const Problem&, const Unit&, const KeyPiece&, const KeyBlock&, const UnitMemory&);
};

// The machine has the tier.
const Kernels& kernels_for(Element element, CpuTier tier);

// Of attention_cpu_bf16.cpp, for CpuTier::kAvx512Bf16; null on other architectures.
const Kernels* bf16_kernels();

}  // namespace ithaca::attention
