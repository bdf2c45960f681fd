// The collectives that Ithaca uses, over one group of ranks. Three backends: threads of one process,
// messages between processes (c10d Gloo or each other's memory), c10d NCCL. This room is the only one that names gloo, nccl or c10d.
//
// Rules that hold for every backend:
//  - Tensors are contiguous. In and out of one call do not overlap unless the call is named in place; of
//    all_gather the input may be exactly the rank's own rows of out, of reduce_scatter out the rank's own rows
//    of the input (whose other rows stay as they were).
//  - float16 and bfloat16 are summed in float32 and rounded once.
//  - Sums are taken in rank order: the same inputs give the same bits at every run and on every CPU backend.
//  - A group of one returns its input and sends nothing.
//  - Every wait ends: with the result, or with CommunicationError within the group's timeout, which names the
//    rank at fault where it is known.
//  - A non-blocking call (`async_` below) returns a Work: wait() once. Inputs and outputs belong to the call
//    until then.
//  - All ranks of a group make the same calls in the same order.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ithaca/comm/traffic.h"

namespace ithaca {

enum class ReduceOp { kSum, kMax };

inline constexpr int kMaxTag = 1 << 20;  // tags of send and recv are 0 to kMaxTag - 1

class Work {
 public:
  virtual ~Work() = default;
  // Blocks the caller (CPU), or makes the current stream wait (CUDA), until outputs may be read and inputs
  // reused.
  virtual void wait() = 0;
};
using WorkPtr = std::unique_ptr<Work>;

// Of a call that was complete when it returned.
struct DoneWork : Work {
  void wait() override {}
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  int rank() const { return rank_; }  // in this group
  int size() const { return static_cast<int>(ranks_.size()); }
  const std::vector<int>& ranks() const { return ranks_; }  // world ranks, by group rank
  const std::string& name() const { return name_; }

  // In place; every rank ends with root's bits.
  void broadcast(at::Tensor& tensor, int root);
  void all_reduce(at::Tensor& tensor, ReduceOp op = ReduceOp::kSum);  // in place
  // out: dim 0 is the concatenation over ranks; rank i gives counts[i] rows. counts empty: all give
  // input.size(0).
  void all_gather(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& counts = {});
  // out: rank r gets the sum of rows [offset_r, offset_r + counts[r]) of everybody's input. counts empty:
  // equal shares.
  void reduce_scatter(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& counts = {});
  // Rows of dim 0: in_counts[j] rows go to rank j, out_counts[j] rows come from rank j. Zeros are legal.
  void all_to_all(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& out_counts,
                  const std::vector<int64_t>& in_counts);
  void send(const at::Tensor& tensor, int to, int tag = 0);
  void recv(at::Tensor& tensor, int from, int tag = 0);
  void barrier();

  // The same, asynchronous. Post all receives and sends, then wait: that order never deadlocks.
  WorkPtr async_all_reduce(at::Tensor& tensor, ReduceOp op = ReduceOp::kSum);
  WorkPtr async_all_gather(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& counts = {});
  WorkPtr async_reduce_scatter(at::Tensor& out, const at::Tensor& input,
                               const std::vector<int64_t>& counts = {});
  WorkPtr async_all_to_all(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& out_counts,
                           const std::vector<int64_t>& in_counts);
  WorkPtr async_send(const at::Tensor& tensor, int to, int tag = 0);
  WorkPtr async_recv(at::Tensor& tensor, int from, int tag = 0);

  // A group of some of this group's ranks, in the order given. Collective: every rank of this group calls it
  // with the same list, in the same order, also the ranks that are not in it; those get nullptr.
  std::unique_ptr<Communicator> new_group(const std::vector<int>& group_ranks, const std::string& name);

  // Bytes this rank has sent through this communicator, by verb (traffic.h).
  Traffic& traffic() { return traffic_; }

 protected:
  Communicator(int rank, std::vector<int> ranks, std::string name)
      : rank_(rank), ranks_(std::move(ranks)), name_(std::move(name)) {}

  // What a backend supplies; arguments are checked and counted before, groups of one never get here. Sizes in
  // rows of dim 0.
  virtual void do_broadcast(at::Tensor& tensor, int root) = 0;
  virtual WorkPtr do_all_reduce(at::Tensor& tensor, ReduceOp op) = 0;
  virtual WorkPtr do_all_gather(at::Tensor& out, const at::Tensor& input,
                                const std::vector<int64_t>& counts) = 0;
  virtual WorkPtr do_reduce_scatter(at::Tensor& out, const at::Tensor& input,
                                    const std::vector<int64_t>& counts) = 0;
  virtual WorkPtr do_all_to_all(at::Tensor& out, const at::Tensor& input,
                                const std::vector<int64_t>& out_counts,
                                const std::vector<int64_t>& in_counts) = 0;
  virtual WorkPtr do_send(const at::Tensor& tensor, int to, int tag) = 0;
  virtual WorkPtr do_recv(at::Tensor& tensor, int from, int tag) = 0;
  virtual void do_barrier() = 0;
  virtual std::unique_ptr<Communicator> do_new_group(const std::vector<int>& group_ranks,
                                                     const std::string& name) = 0;

 private:
  int rank_;
  std::vector<int> ranks_;
  std::string name_;
  Traffic traffic_;
};

}  // namespace ithaca
