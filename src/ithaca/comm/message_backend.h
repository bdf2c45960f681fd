// CPU collectives between processes, built on point-to-point messages alone: reductions are then in rank order
// and in float32 for 16-bit types, bit for bit the thread backend's; shares may be uneven; and a failure names
// the rank it came from. Algorithms: cost.h. A large sum is pipelined in chunks through at most 32 MiB of
// scratch. Sums progress inside wait(): wait for Works in the order they were posted.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "ithaca/comm/communicator.h"
#include "ithaca/comm/message_transport.h"

namespace ithaca {

struct MessageContext {
  c10::intrusive_ptr<c10d::Store> store;  // of this group: what other backends meet at
  std::chrono::milliseconds timeout;
  std::function<std::optional<std::string>()> announced_failure;  // what a failing rank left in the store
};

class MessageCommunicator : public Communicator {
 public:
  // The transport connects the same ranks, in the same order.
  MessageCommunicator(MessageContext context, std::unique_ptr<MessageTransport> transport, int rank,
                      std::vector<int> ranks, const std::string& name);

  // Public, so that the NCCL communicator can hand its CPU tensors on.
  void do_broadcast(at::Tensor& tensor, int root) override;
  WorkPtr do_all_reduce(at::Tensor& tensor, ReduceOp op) override;
  WorkPtr do_all_gather(at::Tensor& out, const at::Tensor& input,
                        const std::vector<int64_t>& counts) override;
  WorkPtr do_reduce_scatter(at::Tensor& out, const at::Tensor& input,
                            const std::vector<int64_t>& counts) override;
  WorkPtr do_all_to_all(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& out_counts,
                        const std::vector<int64_t>& in_counts) override;
  WorkPtr do_send(const at::Tensor& tensor, int to, int tag) override;
  WorkPtr do_recv(at::Tensor& tensor, int from, int tag) override;
  void do_barrier() override;
  std::unique_ptr<Communicator> do_new_group(const std::vector<int>& group_ranks,
                                             const std::string& name) override;

  const MessageContext& context() const { return context_; }

 private:
  class Messages;
  class ExchangeWork;
  class SmallReduceWork;
  class ReduceWork;
  int next_tag();

  MessageContext context_;
  std::unique_ptr<MessageTransport> transport_;
  int64_t tags_ = 0;
  int children_ = 0;  // groups made from this one
};

}  // namespace ithaca
