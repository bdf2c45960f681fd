// The exchanges of Ulysses: which pieces of which tensor go to whom. A call may be cut into chunks of heads,
// each with exchanges of its own, so that one chunk travels while another is computed. A kv head that several
// chunks of a rank use travels once: with the first of them, its gradient with the last; so all chunks
// together send what one exchange sends.
// B batch, T rows of the whole sequence (of the ring rank, in a hybrid), S rows of this rank, H query heads, K
// kv heads, D head size; h, k of this rank.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ithaca/base/split.h"
#include "ithaca/kernels/pattern.h"
#include "ithaca/parallel/sequence/exchange.h"

namespace ithaca {

struct UlyssesSplit {
  std::vector<HeadRange> heads;  // by rank: the heads it computes
  std::vector<int64_t> rows;     // by rank: the rows it holds outside attention
  int64_t length() const;        // T
  int64_t row_begin(int rank) const;
  // Is local kv head `kv` of `rank` used by another rank too?
  bool shared(int rank, int64_t kv) const;
};

// H mod P leading ranks get one query head more; kv heads as needed. UserError if ranks > heads.q_count (the
// message proposes what works).
std::vector<HeadRange> split_heads(const HeadRange& heads, int ranks);

// By rank; kv heads are global.
struct HeadChunk {
  std::vector<HeadRange> heads;  // that it computes; none where a rank has fewer heads than there are chunks
  std::vector<Share> arriving;   // kv heads that no earlier chunk of the rank brought
  std::vector<Share> leaving;    // kv heads that no later chunk of the rank uses
};
// Each rank's heads in `chunks` near-even parts: cut between kv heads where there are as many of them as
// chunks (a chunk then computes what no other does, to the bit), else between query heads.
std::vector<HeadChunk> head_chunks(const std::vector<HeadRange>& heads, int chunks);

class UlyssesExchange {
 public:
  // row_dim 1: [B, rows, heads, D]; 0: [rows, B, heads, D]. split and group must outlive this.
  UlyssesExchange(const UlyssesSplit& split, Communicator& group, int64_t row_dim)
      : split_(split), group_(group), row_dim_(row_dim) {}

  // Like `t`, with the whole sequence (this rank's rows) of `heads` heads. Not initialised.
  at::Tensor empty_full(const at::Tensor& t, int64_t heads) const;
  at::Tensor empty_local(const at::Tensor& t, int64_t heads, at::ScalarType dtype) const;

  // Query heads of one chunk: local [B, S, H, D] <-> full [B, T, h of the chunk, D].
  void queries_to_heads(Exchange& exchange, const HeadChunk& chunk, const at::Tensor& local,
                        at::Tensor& full) const;
  void queries_to_rows(Exchange& exchange, const HeadChunk& chunk, const at::Tensor& full,
                       at::Tensor& local) const;
  // The chunk's arriving kv heads: local [B, S, K, D] -> full [B, T, k, D].
  void keys_to_heads(Exchange& exchange, const HeadChunk& chunk, const at::Tensor& local,
                     at::Tensor& full) const;

 private:
  at::Tensor rows_of(const at::Tensor& full, int rank) const {
    return full.narrow(row_dim_, split_.row_begin(rank), split_.rows[rank]);
  }
  friend class KeyGradients;

  const UlyssesSplit& split_;
  Communicator& group_;
  int64_t row_dim_;
};

// dK and dV on their way from heads to rows. A kv head used by one rank travels in the element type, one used
// by several in opmath; those are summed in rank order.
class KeyGradients {
 public:
  // dk, dv [B, S, K, D] in the element type are written by finish().
  KeyGradients(const UlyssesExchange& exchanges, at::Tensor dk, at::Tensor dv)
      : exchanges_(exchanges), dk_(std::move(dk)), dv_(std::move(dv)) {}

  // The chunk's leaving kv heads of full dk, dv [B, T, k, D] (opmath).
  void to_rows(Exchange& exchange, const HeadChunk& chunk, const at::Tensor& dk, const at::Tensor& dv);
  // After all exchanges have finished.
  void finish();

 private:
  struct Partial {  // of a kv head that several ranks use
    int64_t kv = 0;
    int rank = 0;
    at::Tensor dk, dv;
  };
  const UlyssesExchange& exchanges_;
  at::Tensor dk_, dv_;
  std::vector<Partial> partials_;
};

}  // namespace ithaca
