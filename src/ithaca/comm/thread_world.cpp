#include "ithaca/comm/thread_world.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/AutogradState.h>
#include <c10/util/Exception.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>

#include "ithaca/base/error.h"
#include "ithaca/base/split.h"
#include "ithaca/comm/cost.h"
#include "ithaca/comm/rank_order.h"
#include "ithaca/comm/rows.h"

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;

// What all ranks of all groups share: one lock, and who has failed or left.
struct ThreadWorld {
  ThreadWorld(int size, std::chrono::milliseconds timeout)
      : left(static_cast<std::size_t>(size), false), timeout(timeout) {}

  // Blocks until ready(). `missing` lists the world ranks that it depends on at that moment; `call` describes
  // it in errors.
  template <class Ready, class Missing>
  void wait(Lock& lock, const Ready& ready, const Missing& missing, const std::string& call) {
    const Clock::time_point deadline = Clock::now() + timeout;
    while (!ready()) {
      if (failed_rank)
        throw CommunicationError(ithaca::str(call, ": rank ", *failed_rank, " failed: ", cause));
      for (const int rank : missing()) {
        if (left[static_cast<std::size_t>(rank)])
          throw CommunicationError(ithaca::str(call, ": rank ", rank, " returned without making this call"));
      }
      if (changed.wait_until(lock, deadline) == std::cv_status::timeout && !ready() && !failed_rank) {
        std::string late;
        for (const int rank : missing()) late += (late.empty() ? "" : ", ") + std::to_string(rank);
        throw CommunicationError(
            ithaca::str(call, ": no answer within ", timeout.count(), " ms from rank ", late));
      }
    }
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::optional<int> failed_rank;  // the first
  std::string cause;
  std::exception_ptr exception;
  std::vector<bool> left;  // by world rank: its function has returned
  const std::chrono::milliseconds timeout;
};

enum class Kind { kBroadcast, kAllReduce, kAllGather, kReduceScatter, kAllToAll, kBarrier, kNewGroup };

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::kBroadcast:
      return "broadcast";
    case Kind::kAllReduce:
      return "all_reduce";
    case Kind::kAllGather:
      return "all_gather";
    case Kind::kReduceScatter:
      return "reduce_scatter";
    case Kind::kAllToAll:
      return "all_to_all";
    case Kind::kBarrier:
      return "barrier";
    case Kind::kNewGroup:
      return "new_group";
  }
  return "?";
}

// What one rank brings to one collective.
struct Call {
  Kind kind;
  at::Tensor out, input;                       // in place: input is out
  std::vector<int64_t> out_counts, in_counts;  // all_gather, reduce_scatter: both the same
  int detail = 0;                              // root, or the ReduceOp
};

struct Group;

// One collective of one group, from the first post to the last wait.
struct Round {
  explicit Round(std::size_t size) : calls(size), claimed(size, false) {}
  std::vector<std::optional<Call>> calls;  // by group rank
  std::vector<bool> claimed;               // share r is being done, or is done
  std::size_t posted = 0, finished = 0;
  std::string mismatch;          // why the calls do not belong together: nobody may run them
  std::shared_ptr<Group> child;  // new_group
};

struct Message {
  at::Tensor tensor;
  bool done = false;
};
using MessageKey = std::tuple<int, int, int>;  // from, to, tag
using Messages = std::map<MessageKey, std::deque<std::shared_ptr<Message>>>;

struct Group {
  std::shared_ptr<ThreadWorld> world;
  std::vector<int> ranks;
  std::string name;
  std::map<int64_t, std::shared_ptr<Round>> rounds;  // those that not every rank has posted yet
  Messages sends, recvs;                             // those without a partner yet
};

// Copies `count` elements; both tensors are contiguous and of one dtype.
void copy_elements(const at::Tensor& to, int64_t to_begin, const at::Tensor& from, int64_t from_begin,
                   int64_t count) {
  if (count == 0) return;
  if (to.is_cpu() && from.is_cpu()) {
    const auto bytes = static_cast<int64_t>(to.element_size());
    char* target = static_cast<char*>(to.mutable_data_ptr()) + to_begin * bytes;
    const char* source = static_cast<const char*>(from.const_data_ptr()) + from_begin * bytes;
    if (target != source)
      std::memcpy(target, source, static_cast<std::size_t>(count * bytes));  // else in place
    return;
  }
  const at::NoGradGuard no_grad;
  to.view({-1}).narrow(0, to_begin, count).copy_(from.view({-1}).narrow(0, from_begin, count));
}

// outs[k][out_begin + i] = sum over ranks of inputs[r][begin + i], i < count.
void reduce_elements(const std::vector<at::Tensor>& outs, int64_t out_begin,
                     const std::vector<at::Tensor>& inputs, int64_t begin, int64_t count, ReduceOp op) {
  if (count == 0) return;
  if (inputs[0].is_cpu()) {
    const auto bytes = static_cast<int64_t>(inputs[0].element_size());
    std::vector<const void*> from;
    std::vector<void*> to;
    for (const at::Tensor& input : inputs)
      from.push_back(static_cast<const char*>(input.const_data_ptr()) + begin * bytes);
    for (const at::Tensor& out : outs)
      to.push_back(static_cast<char*>(out.mutable_data_ptr()) + out_begin * bytes);
    reduce_in_rank_order(inputs[0].scalar_type(), op, from, to, count);
    return;
  }
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (const at::Tensor& input : inputs) parts.push_back(input.view({-1}).narrow(0, begin, count));
  const at::Tensor sum = reduce_in_rank_order(parts, op);
  for (const at::Tensor& out : outs) out.view({-1}).narrow(0, out_begin, count).copy_(sum);
}

// Share r of a collective: what ends in rank r's out, or, for all_reduce, part r of everybody's tensor.
void run_share(const Round& round, std::size_t r) {
  const std::size_t n = round.calls.size();
  const Call& own = *round.calls[r];
  const int64_t row = own.input.defined() ? row_elements(own.input) : 0;
  switch (own.kind) {
    case Kind::kBroadcast: {
      const auto root = static_cast<std::size_t>(own.detail);
      if (r != root) copy_elements(own.out, 0, round.calls[root]->input, 0, own.out.numel());
      return;
    }
    case Kind::kAllReduce:
    case Kind::kReduceScatter: {
      std::vector<at::Tensor> inputs;
      for (const std::optional<Call>& call : round.calls) inputs.push_back(call->input);
      const auto op = static_cast<ReduceOp>(own.detail);
      if (own.kind == Kind::kReduceScatter) {
        return reduce_elements({own.out}, 0, inputs, rows_before(own.in_counts, r) * row, own.out.numel(),
                               op);
      }
      const Share share = even_split(own.input.numel(), static_cast<int64_t>(n), static_cast<int64_t>(r));
      return reduce_elements(inputs, share.begin, inputs, share.begin, share.count, op);
    }
    case Kind::kAllGather:
      for (std::size_t j = 0; j < n; ++j) {
        copy_elements(own.out, rows_before(own.out_counts, j) * row, round.calls[j]->input, 0,
                      own.out_counts[j] * row);
      }
      return;
    case Kind::kAllToAll:
      for (std::size_t j = 0; j < n; ++j) {
        const Call& peer = *round.calls[j];
        copy_elements(own.out, rows_before(own.out_counts, j) * row, peer.input,
                      rows_before(peer.in_counts, r) * row, own.out_counts[j] * row);
      }
      return;
    case Kind::kBarrier:
    case Kind::kNewGroup:
      return;
  }
}

std::string describe(const Call& call) {
  std::string text = name_of(call.kind);
  if (call.input.defined())
    text += ithaca::str(" of ", c10::toString(call.input.scalar_type()), " ", call.input.sizes());
  if (!call.in_counts.empty()) text += ithaca::str(" counts ", Listed{call.in_counts});
  return text + ithaca::str(" (", call.detail, ")");
}

bool agree(const Call& a, const Call& b, std::size_t rank_a, std::size_t rank_b) {
  if (a.kind != b.kind || a.detail != b.detail || a.input.defined() != b.input.defined()) return false;
  if (a.kind == Kind::kNewGroup) return a.in_counts == b.in_counts;
  if (!a.input.defined()) return true;
  if (a.input.scalar_type() != b.input.scalar_type() || a.input.device().type() != b.input.device().type())
    return false;
  switch (a.kind) {
    case Kind::kBroadcast:
    case Kind::kAllReduce:
      return a.input.numel() == b.input.numel();
    case Kind::kAllToAll:
      return row_elements(a.input) == row_elements(b.input) && a.in_counts[rank_b] == b.out_counts[rank_a] &&
             b.in_counts[rank_a] == a.out_counts[rank_b];
    default:
      return row_elements(a.input) == row_elements(b.input) && a.in_counts == b.in_counts;
  }
}

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank)
      : Communicator(rank, group->ranks, group->name), group_(std::move(group)) {}

 protected:
  void do_broadcast(at::Tensor& tensor, int root) override {
    post({Kind::kBroadcast, tensor, tensor, {}, {}, root})->wait();
  }
  WorkPtr do_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    return post({Kind::kAllReduce, tensor, tensor, {}, {}, static_cast<int>(op)});
  }
  WorkPtr do_all_gather(at::Tensor& out, const at::Tensor& input,
                        const std::vector<int64_t>& counts) override {
    return post({Kind::kAllGather, out, input, counts, counts});
  }
  WorkPtr do_reduce_scatter(at::Tensor& out, const at::Tensor& input,
                            const std::vector<int64_t>& counts) override {
    return post({Kind::kReduceScatter, out, input, counts, counts});
  }
  WorkPtr do_all_to_all(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& out_counts,
                        const std::vector<int64_t>& in_counts) override {
    return post({Kind::kAllToAll, out, input, out_counts, in_counts});
  }
  WorkPtr do_send(const at::Tensor& tensor, int to, int tag) override {
    return post_message(tensor, rank(), to, tag, true);
  }
  WorkPtr do_recv(at::Tensor& tensor, int from, int tag) override {
    return post_message(tensor, from, rank(), tag, false);
  }
  void do_barrier() override { post({Kind::kBarrier, {}, {}, {}, {}})->wait(); }
  std::unique_ptr<Communicator> do_new_group(const std::vector<int>& group_ranks,
                                             const std::string& name) override;

 private:
  class RoundWork : public Work {
   public:
    RoundWork(ThreadCommunicator& owner, std::shared_ptr<Round> round, std::string call)
        : group_(owner.group_),
          round_(std::move(round)),
          rank_(static_cast<std::size_t>(owner.rank())),
          call_(std::move(call)) {}
    void wait() override;

   private:
    std::shared_ptr<Group> group_;
    std::shared_ptr<Round> round_;
    std::size_t rank_;
    std::string call_;
  };

  class MessageWork : public Work {
   public:
    MessageWork(std::shared_ptr<Group> group, std::shared_ptr<Message> message, int peer, std::string call)
        : group_(std::move(group)), message_(std::move(message)), peer_(peer), call_(std::move(call)) {}
    void wait() override {
      Lock lock(group_->world->mutex);
      group_->world->wait(
          lock, [this] { return message_->done; }, [this] { return std::vector<int>{peer_}; }, call_);
    }

   private:
    std::shared_ptr<Group> group_;
    std::shared_ptr<Message> message_;
    int peer_;  // world rank
    std::string call_;
  };

  std::unique_ptr<RoundWork> post(Call call);
  std::shared_ptr<Round> find_round();
  std::string disagreement(const Round& round) const;
  WorkPtr post_message(const at::Tensor& tensor, int from, int to, int tag, bool sending);

  std::shared_ptr<Group> group_;
  int64_t calls_ = 0;  // collectives this rank has posted
};

std::shared_ptr<Round> ThreadCommunicator::find_round() {
  std::shared_ptr<Round>& round = group_->rounds[calls_];
  if (!round) round = std::make_shared<Round>(group_->ranks.size());
  return round;
}

// How the other calls contradict this rank's; empty: they do not.
std::string ThreadCommunicator::disagreement(const Round& round) const {
  const auto own = static_cast<std::size_t>(rank());
  for (std::size_t r = 0; r < round.calls.size(); ++r) {
    const Call &mine = *round.calls[own], &other = *round.calls[r];
    if (agree(mine, other, own, r)) continue;
    return ithaca::str("call ", calls_, " of group ", name(), ": rank ", ranks()[own], " called ",
                       describe(mine), ", but rank ", ranks()[r], " called ", describe(other));
  }
  return "";
}

std::unique_ptr<ThreadCommunicator::RoundWork> ThreadCommunicator::post(Call call) {
  const std::string text = ithaca::str(name_of(call.kind), " in group ", name());
  const Lock lock(group_->world->mutex);
  std::shared_ptr<Round> round = find_round();
  round->calls[static_cast<std::size_t>(rank())] = std::move(call);
  if (round->posted + 1 == round->calls.size()) {
    group_->rounds.erase(calls_);
    group_->world->changed.notify_all();
    round->mismatch = disagreement(*round);
    if (!round->mismatch.empty()) throw CommunicationError(round->mismatch);
  }
  round->posted += 1;  // the last one sets the waiting ranks to work, on tensors that fit
  ++calls_;
  return std::make_unique<RoundWork>(*this, std::move(round), text);
}

void ThreadCommunicator::RoundWork::wait() {
  ThreadWorld& world = *group_->world;
  const std::size_t n = round_->calls.size();
  Lock lock(world.mutex);
  const auto missing = [&] {
    std::vector<int> ranks;
    for (std::size_t r = 0; r < n; ++r) {
      if (!round_->calls[r]) ranks.push_back(group_->ranks[r]);
    }
    return ranks;
  };
  world.wait(
      lock, [&] { return round_->posted == n || !round_->mismatch.empty(); }, missing, call_);
  if (!round_->mismatch.empty()) throw CommunicationError(round_->mismatch);
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t r = (rank_ + k) % n;  // the own share first, then those whose rank is not here yet
    if (round_->claimed[r]) continue;
    round_->claimed[r] = true;
    lock.unlock();
    run_share(*round_, r);
    lock.lock();
    round_->finished += 1;
  }
  if (round_->finished == n) return world.changed.notify_all();
  world.wait(
      lock, [&] { return round_->finished == n; }, missing, call_);
}

WorkPtr ThreadCommunicator::post_message(const at::Tensor& tensor, int from, int to, int tag, bool sending) {
  const int peer = ranks()[static_cast<std::size_t>(sending ? to : from)];
  const std::string text = ithaca::str(sending ? "send to rank " : "recv from rank ", peer, " with tag ", tag,
                                       " in group ", name());
  auto message = std::make_shared<Message>(Message{tensor});
  Lock lock(group_->world->mutex);
  std::deque<std::shared_ptr<Message>>& partners = (sending ? group_->recvs : group_->sends)[{from, to, tag}];
  if (partners.empty()) {
    (sending ? group_->sends : group_->recvs)[{from, to, tag}].push_back(message);
    return std::make_unique<MessageWork>(group_, message, peer, text);
  }
  const std::shared_ptr<Message> partner = partners.front();
  partners.pop_front();
  const at::Tensor &source = sending ? tensor : partner->tensor, &target = sending ? partner->tensor : tensor;
  if (source.scalar_type() != target.scalar_type() || source.numel() != target.numel()) {
    throw CommunicationError(ithaca::str(text, ": ", c10::toString(source.scalar_type()), " ", source.sizes(),
                                         " was sent, ", c10::toString(target.scalar_type()), " ",
                                         target.sizes(), " is expected"));
  }
  lock.unlock();
  copy_elements(target, 0, source, 0, source.numel());
  lock.lock();
  message->done = partner->done = true;
  group_->world->changed.notify_all();
  return std::make_unique<MessageWork>(group_, message, peer, text);
}

std::unique_ptr<Communicator> ThreadCommunicator::do_new_group(const std::vector<int>& group_ranks,
                                                               const std::string& name) {
  std::shared_ptr<Round> round;
  {
    const Lock lock(group_->world->mutex);
    round = find_round();
    if (!round->child) {
      std::vector<int> world_ranks;
      for (const int rank : group_ranks) world_ranks.push_back(ranks()[static_cast<std::size_t>(rank)]);
      round->child = std::make_shared<Group>(Group{group_->world, std::move(world_ranks), name, {}, {}, {}});
    }
  }
  post({Kind::kNewGroup, {}, {}, {}, {group_ranks.begin(), group_ranks.end()}})->wait();
  for (std::size_t i = 0; i < group_ranks.size(); ++i) {
    if (group_ranks[i] == rank())
      return std::make_unique<ThreadCommunicator>(round->child, static_cast<int>(i));
  }
  return nullptr;
}

[[noreturn]] void rethrow_with_rank(int rank, const std::exception_ptr& exception) {
  const std::string prefix = ithaca::str("rank ", rank, ": ");
  try {
    std::rethrow_exception(exception);
  } catch (const UserError& error) {
    throw UserError(prefix + error.what());
  } catch (const NumericsError& error) {
    throw NumericsError(prefix + error.what());
  } catch (const CommunicationError& error) {
    throw CommunicationError(prefix + error.what());
  } catch (const Error& error) {
    throw Error(error.code(), prefix + error.what());
  } catch (const c10::Error& error) {
    throw Error(kInternal, prefix + error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw Error(kInternal, prefix + error.what());
  }
}

std::string message_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception of unknown type";
  }
}

}  // namespace

void run_thread_ranks(int size, const std::function<void(Communicator& world)>& fn,
                      std::chrono::milliseconds timeout) {
  ITHACA_CHECK(size >= 1, "size is ", size);
  const auto world = std::make_shared<ThreadWorld>(size, timeout);
  std::vector<int> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.push_back(rank);
  const auto group = std::make_shared<Group>(Group{world, ranks, "world", {}, {}, {}});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
      std::exception_ptr exception;
      try {
        ThreadCommunicator communicator(group, rank);
        fn(communicator);
      } catch (...) {
        exception = std::current_exception();
      }
      const Lock lock(world->mutex);
      world->left[static_cast<std::size_t>(rank)] = true;
      if (exception && !world->failed_rank) {
        world->failed_rank = rank;
        world->cause = message_of(exception);
        world->exception = exception;
      }
      world->changed.notify_all();
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (world->failed_rank) rethrow_with_rank(*world->failed_rank, world->exception);
}

std::unique_ptr<Communicator> single_rank_world(int rank, const std::string& name) {
  const auto world = std::make_shared<ThreadWorld>(rank + 1, std::chrono::seconds(60));
  return std::make_unique<ThreadCommunicator>(std::make_shared<Group>(Group{world, {rank}, name, {}, {}, {}}),
                                              0);
}

}  // namespace ithaca
