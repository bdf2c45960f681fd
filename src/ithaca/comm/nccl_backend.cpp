// NCCL sums 16-bit types in 16 bits and takes equal shares only, so those sums are an all_to_all of the
// shares and a sum of our own in rank order and float32; 32- and 64-bit sums are NCCL's.
#include "ithaca/comm/nccl_backend.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/split.h"
#include "ithaca/comm/cost.h"
#include "ithaca/comm/rank_order.h"
#include "ithaca/comm/rows.h"

namespace ithaca {
namespace {

using Counts = std::vector<int64_t>;

bool is_16_bit(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
}

class NcclCommunicator : public Communicator {
 public:
  explicit NcclCommunicator(std::unique_ptr<MessageCommunicator> cpu)
      : Communicator(cpu->rank(), cpu->ranks(), cpu->name()), cpu_(std::move(cpu)) {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = cpu_->context().timeout;
    const auto store = c10::make_intrusive<c10d::PrefixStore>("nccl", cpu_->context().store);
    try {
      group_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank(), size(), options);
    } catch (const std::exception& error) {
      fail("new_group", error);
    }
  }
  ~NcclCommunicator() override {
    try {
      group_->shutdown();
    } catch (const std::exception&) {
      return;  // the other ranks are gone already; their end has been reported
    }
  }

 protected:
  void do_broadcast(at::Tensor& tensor, int root) override {
    if (tensor.is_cpu()) return cpu_->do_broadcast(tensor, root);
    c10d::BroadcastOptions options;
    options.rootRank = root;
    run(
        "broadcast", [&](std::vector<at::Tensor>& list) { return group_->broadcast(list, options); }, tensor)
        ->wait();
  }

  WorkPtr do_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    if (tensor.is_cpu()) return cpu_->do_all_reduce(tensor, op);
    if (is_16_bit(tensor) && op == ReduceOp::kSum) {
      Counts counts;
      for (int r = 0; r < size(); ++r) counts.push_back(even_split(tensor.numel(), size(), r).count);
      at::Tensor flat = tensor.view({-1}),
                 own = at::empty({counts[static_cast<std::size_t>(rank())]}, tensor.options());
      sum_of_shares(own, flat, counts);
      return do_all_gather(flat, own, counts);
    }
    c10d::AllreduceOptions options;
    options.reduceOp =
        op == ReduceOp::kMax || tensor.scalar_type() == at::kBool ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
    return run(
        "all_reduce", [&](std::vector<at::Tensor>& list) { return group_->allreduce(list, options); },
        tensor);
  }

  WorkPtr do_all_gather(at::Tensor& out, const at::Tensor& input, const Counts& counts) override {
    if (out.is_cpu()) return cpu_->do_all_gather(out, input, counts);
    if (even(counts))
      return run(
          "all_gather", [&](std::vector<at::Tensor>& list) { return group_->_allgather_base(out, list[0]); },
          input);
    // Uneven shares: everybody's rows to everybody, as one exchange.
    std::vector<at::Tensor> parts;
    for (std::size_t r = 0; r < counts.size(); ++r)
      parts.push_back(out.narrow(0, rows_before(counts, r), counts[r]));
    std::vector<at::Tensor> copies(counts.size(), input);
    return run(
        "all_gather", [&](std::vector<at::Tensor>&) { return group_->alltoall(parts, copies); }, input);
  }

  WorkPtr do_reduce_scatter(at::Tensor& out, const at::Tensor& input, const Counts& counts) override {
    if (out.is_cpu()) return cpu_->do_reduce_scatter(out, input, counts);
    if (is_16_bit(input) || !even(counts)) {
      sum_of_shares(out, input, counts);
      return std::make_unique<DoneWork>();  // on the current stream, like every later use of out
    }
    return run(
        "reduce_scatter",
        [&](std::vector<at::Tensor>& list) { return group_->_reduce_scatter_base(out, list[0]); }, input);
  }

  WorkPtr do_all_to_all(at::Tensor& out, const at::Tensor& input, const Counts& out_counts,
                        const Counts& in_counts) override {
    if (out.is_cpu()) return cpu_->do_all_to_all(out, input, out_counts, in_counts);
    Counts to = out_counts, from = in_counts;
    return run(
        "all_to_all",
        [&](std::vector<at::Tensor>& list) { return group_->alltoall_base(out, list[0], to, from); }, input);
  }

  WorkPtr do_send(const at::Tensor& tensor, int to, int tag) override {
    if (tensor.is_cpu()) return cpu_->do_send(tensor, to, tag);
    const at::Tensor host = tensor.cpu();
    return std::make_unique<HostWork>(cpu_->do_send(host, to, tag), host, at::Tensor());
  }
  WorkPtr do_recv(at::Tensor& tensor, int from, int tag) override {
    if (tensor.is_cpu()) return cpu_->do_recv(tensor, from, tag);
    at::Tensor host = at::empty(tensor.sizes(), tensor.options().device(at::kCPU));
    WorkPtr work = cpu_->do_recv(host, from, tag);
    return std::make_unique<HostWork>(std::move(work), host, tensor);
  }
  void do_barrier() override { cpu_->do_barrier(); }

  std::unique_ptr<Communicator> do_new_group(const std::vector<int>& group_ranks,
                                             const std::string& name) override {
    std::unique_ptr<Communicator> cpu = cpu_->do_new_group(group_ranks, name);
    if (!cpu || cpu->size() == 1) return cpu;
    return make_nccl_communicator(
        std::unique_ptr<MessageCommunicator>(static_cast<MessageCommunicator*>(cpu.release())));
  }

 private:
  class NcclWork : public Work {
   public:
    NcclWork(const NcclCommunicator& owner, const char* verb, c10::intrusive_ptr<c10d::Work> work,
             at::Tensor kept)
        : owner_(owner), verb_(verb), work_(std::move(work)), kept_(std::move(kept)) {}
    void wait() override {
      try {
        work_->wait();
      } catch (const std::exception& error) {
        owner_.fail(verb_, error);
      }
    }

   private:
    const NcclCommunicator& owner_;
    const char* verb_;
    c10::intrusive_ptr<c10d::Work> work_;
    at::Tensor kept_;
  };

  // A message of the CPU group, with the host's buffer; what was received goes on to `to` when waited for.
  class HostWork : public Work {
   public:
    HostWork(WorkPtr work, at::Tensor host, at::Tensor to)
        : work_(std::move(work)), host_(std::move(host)), to_(std::move(to)) {}
    void wait() override {
      work_->wait();
      const at::NoGradGuard no_grad;
      if (to_.defined()) to_.copy_(host_);
    }

   private:
    WorkPtr work_;
    at::Tensor host_, to_;
  };

  template <class Call>
  WorkPtr run(const char* verb, const Call& call, const at::Tensor& tensor) {
    std::vector<at::Tensor> list = {tensor};
    try {
      return std::make_unique<NcclWork>(*this, verb, call(list), tensor);
    } catch (const std::exception& error) {
      fail(verb, error);
    }
  }

  // out = rank's share of the sum over ranks, in rank order.
  void sum_of_shares(at::Tensor& out, const at::Tensor& input, const Counts& counts) {
    const at::NoGradGuard no_grad;
    const Counts own(counts.size(), counts[static_cast<std::size_t>(rank())]);
    Counts sizes = input.sizes().vec();
    sizes[0] = sum_of(own);
    at::Tensor received = at::empty(sizes, input.options());
    do_all_to_all(received, input, own, counts)->wait();
    if (out.numel() == 0) return;
    std::vector<at::Tensor> parts;
    for (std::size_t r = 0; r < own.size(); ++r)
      parts.push_back(received.narrow(0, rows_before(own, r), own[r]));
    out.view({-1}).copy_(reduce_in_rank_order(parts, ReduceOp::kSum));
  }

  static bool even(const Counts& counts) {
    return std::all_of(counts.begin(), counts.end(), [&](int64_t count) { return count == counts[0]; });
  }

  [[noreturn]] void fail(const char* verb, const std::exception& error) const {
    const std::string text = error.what();
    std::string message =
        ithaca::str(verb, " in group ", name(), " on rank ", ranks()[static_cast<std::size_t>(rank())], ": ",
                    text.substr(0, text.find('\n')));
    const std::optional<std::string> announced = cpu_->context().announced_failure();
    if (announced) message += "; before that: " + *announced;
    throw CommunicationError(message);
  }

  std::unique_ptr<MessageCommunicator> cpu_;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<MessageCommunicator> cpu) {
  return std::make_unique<NcclCommunicator>(std::move(cpu));
}

}  // namespace ithaca
