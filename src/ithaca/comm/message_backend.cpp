#include "ithaca/comm/message_backend.h"

#include <ATen/ops/empty.h>

#include <cstring>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/split.h"
#include "ithaca/comm/cost.h"
#include "ithaca/comm/rank_order.h"
#include "ithaca/comm/rows.h"
#include "ithaca/comm/thread_world.h"

namespace ithaca {
namespace {

constexpr int64_t kScratchBytes = 32 << 20;  // of one reduction
// Large enough to hide a message's cost; small enough to overlap sum and transfer, and to be summed from the
// cache it was received into.
constexpr int64_t kChunkBytes = 512 << 10;
constexpr int kCollectiveTag = 1 << 30;  // above every tag of send and recv

char* bytes_of(const at::Tensor& tensor) {
  return static_cast<char*>(tensor.mutable_data_ptr());
}
const char* const_bytes_of(const at::Tensor& tensor) {
  return static_cast<const char*>(tensor.const_data_ptr());
}

// The first line of a c10d or gloo error without its "[file:line] ".
std::string short_message(const std::exception& error) {
  std::string text = error.what();
  text = text.substr(0, text.find('\n'));
  const std::size_t end = text.find("] ");
  return text.starts_with("[") && end != std::string::npos ? text.substr(end + 2) : text;
}

}  // namespace

// Messages of one call: posts them, waits for them, words their failures.
class MessageCommunicator::Messages {
 public:
  Messages(MessageCommunicator& owner, const char* verb) : owner_(owner), verb_(verb) {}

  // Both return the message's index; nothing is posted for 0 bytes.
  std::size_t send(const char* data, int64_t bytes, int to, int tag) {
    return post(const_cast<char*>(data), bytes, to, tag, true);
  }
  std::size_t recv(char* data, int64_t bytes, int from, int tag) {
    return post(data, bytes, from, tag, false);
  }

  void wait(std::size_t index) {
    Posted& posted = list_[index];
    if (!posted.message) return;
    try {
      posted.message->wait();
    } catch (const std::exception& error) {
      fail(posted.peer, short_message(error));
    }
    posted.message.reset();
  }
  void wait_all() {
    for (std::size_t i = 0; i < list_.size(); ++i) wait(i);
  }

 private:
  struct Posted {
    std::unique_ptr<Message> message;
    int peer;
  };

  std::size_t post(char* data, int64_t bytes, int peer, int tag, bool sending) {
    Posted posted{nullptr, peer};
    if (bytes > 0) {
      try {
        posted.message = sending ? owner_.transport_->send(data, bytes, peer, tag)
                                 : owner_.transport_->recv(data, bytes, peer, tag);
      } catch (const std::exception& error) {
        fail(peer, short_message(error));
      }
    }
    list_.push_back(std::move(posted));
    return list_.size() - 1;
  }

  [[noreturn]] void fail(int peer, const std::string& cause) const {
    std::string message = ithaca::str(verb_, " in group ", owner_.name(), ": no answer from rank ",
                                      owner_.ranks()[static_cast<std::size_t>(peer)], " (", cause, ")");
    const std::optional<std::string> announced = owner_.context_.announced_failure();
    if (announced) message += "; before that: " + *announced;
    throw CommunicationError(message);
  }

  MessageCommunicator& owner_;
  const char* verb_;
  std::vector<Posted> list_;
};

// Messages that need nothing but to arrive. Keeps the tensors until then.
class MessageCommunicator::ExchangeWork : public Work {
 public:
  ExchangeWork(MessageCommunicator& owner, const char* verb, at::Tensor out, at::Tensor input)
      : messages(owner, verb), out_(std::move(out)), input_(std::move(input)) {}
  void wait() override { messages.wait_all(); }
  Messages messages;

 private:
  at::Tensor out_, input_;
};

// One round: everybody's tensor comes here and is summed here.
class MessageCommunicator::SmallReduceWork : public Work {
 public:
  SmallReduceWork(MessageCommunicator& owner, at::Tensor tensor, ReduceOp op)
      : tensor_(std::move(tensor)),
        op_(op),
        bytes_(static_cast<int64_t>(tensor_.nbytes())),
        all_(at::empty({owner.size() * bytes_}, at::kByte)),
        size_(owner.size()),
        messages_(owner, "all_reduce") {
    const int tag = owner.next_tag();
    char* all = bytes_of(all_);
    if (bytes_ > 0)
      std::memcpy(all + owner.rank() * bytes_, const_bytes_of(tensor_), static_cast<std::size_t>(bytes_));
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == owner.rank()) continue;
      messages_.recv(all + peer * bytes_, bytes_, peer, tag);
      messages_.send(all + owner.rank() * bytes_, bytes_, peer, tag);
    }
  }
  void wait() override {
    messages_.wait_all();
    std::vector<const void*> inputs;
    for (int r = 0; r < size_; ++r) inputs.push_back(const_bytes_of(all_) + r * bytes_);
    reduce_in_rank_order(tensor_.scalar_type(), op_, inputs, {bytes_of(tensor_)}, tensor_.numel());
  }

 private:
  at::Tensor tensor_;
  ReduceOp op_;
  int64_t bytes_;
  at::Tensor all_;
  int size_;
  Messages messages_;
};

// Sums share r of everybody's input into `own_out` on rank r; for an all_reduce each finished chunk then goes
// to all others, straight into its place. A peer sends the final chunk of its share only after it has
// received ours for it, so the place is free by then.
class MessageCommunicator::ReduceWork : public Work {
 public:
  ReduceWork(MessageCommunicator& owner, const char* verb, at::Tensor input, at::Tensor out,
             std::vector<Share> shares, ReduceOp op, bool gather)
      : rank_(owner.rank()),
        size_(owner.size()),
        input_(std::move(input)),
        out_(std::move(out)),
        shares_(std::move(shares)),
        op_(op),
        gather_(gather),
        element_bytes_(static_cast<int64_t>(input_.element_size())),
        chunk_(
            std::max<int64_t>(1, std::min(kChunkBytes, kScratchBytes / (2 * (size_ - 1))) / element_bytes_)),
        sum_tag_(owner.next_tag()),
        gather_tag_(owner.next_tag()),
        messages_(owner, verb) {
    const Share& own = shares_[static_cast<std::size_t>(rank_)];
    own_out_ = gather_ ? bytes_of(input_) + own.begin * element_bytes_ : bytes_of(out_);
    const int64_t slot = std::min(chunk_, own.count) * element_bytes_;
    scratch_ = at::empty({2 * (size_ - 1) * slot}, at::kByte);
    for (int slot_index = 0; slot_index < 2 * (size_ - 1); ++slot_index)
      slots_.push_back(bytes_of(scratch_) + slot_index * slot);
    post_recvs(0);
    post_recvs(1);
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      const Share& share = shares_[static_cast<std::size_t>(peer)];
      for (int64_t c = 0; c < chunks(share); ++c) {
        char* place = bytes_of(input_) + (share.begin + c * chunk_) * element_bytes_;
        messages_.send(place, chunk_bytes(share, c), peer, sum_tag_);
        if (gather_) messages_.recv(place, chunk_bytes(share, c), peer, gather_tag_);
      }
    }
  }

  void wait() override {
    const Share& own = shares_[static_cast<std::size_t>(rank_)];
    for (int64_t c = 0; c < chunks(own); ++c) {
      std::vector<const void*> inputs;
      for (int r = 0, k = 0; r < size_; ++r) {
        if (r == rank_) {
          inputs.push_back(const_bytes_of(input_) + (own.begin + c * chunk_) * element_bytes_);
          continue;
        }
        messages_.wait(pending_[static_cast<std::size_t>(c % 2)][static_cast<std::size_t>(k)]);
        inputs.push_back(slot(c, k++));
      }
      char* result = own_out_ + c * chunk_ * element_bytes_;
      reduce_in_rank_order(input_.scalar_type(), op_, inputs, {result}, chunk_bytes(own, c) / element_bytes_);
      post_recvs(c + 2);
      for (int peer = 0; gather_ && peer < size_; ++peer) {
        if (peer != rank_) messages_.send(result, chunk_bytes(own, c), peer, gather_tag_);
      }
    }
    messages_.wait_all();
  }

 private:
  int64_t chunks(const Share& share) const { return (share.count + chunk_ - 1) / chunk_; }
  int64_t chunk_bytes(const Share& share, int64_t c) const {
    return std::min(chunk_, share.count - c * chunk_) * element_bytes_;
  }
  char* slot(int64_t c, int k) const { return slots_[static_cast<std::size_t>((c % 2) * (size_ - 1) + k)]; }

  void post_recvs(int64_t c) {
    const Share& own = shares_[static_cast<std::size_t>(rank_)];
    if (c >= chunks(own)) return;
    std::vector<std::size_t>& pending = pending_[static_cast<std::size_t>(c % 2)];
    pending.clear();
    for (int r = 0, k = 0; r < size_; ++r) {
      if (r != rank_) pending.push_back(messages_.recv(slot(c, k++), chunk_bytes(own, c), r, sum_tag_));
    }
  }

  int rank_, size_;
  at::Tensor input_, out_;
  std::vector<Share> shares_;  // in elements
  ReduceOp op_;
  bool gather_;
  int64_t element_bytes_, chunk_;  // chunk in elements
  int sum_tag_, gather_tag_;
  char* own_out_ = nullptr;
  at::Tensor scratch_;  // two chunks of every peer
  std::vector<char*> slots_;
  std::vector<std::size_t> pending_[2];
  Messages messages_;
};

MessageCommunicator::MessageCommunicator(MessageContext context, std::unique_ptr<MessageTransport> transport,
                                         int rank, std::vector<int> ranks, const std::string& name)
    : Communicator(rank, std::move(ranks), name),
      context_(std::move(context)),
      transport_(std::move(transport)) {}

int MessageCommunicator::next_tag() {
  return kCollectiveTag + static_cast<int>(tags_++ % kCollectiveTag);
}

void MessageCommunicator::do_broadcast(at::Tensor& tensor, int root) {
  const int tag = next_tag(), n = size(), position = (rank() - root + n) % n;
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  Messages messages(*this, "broadcast");
  int first = 1;  // distance to the first child: above this rank's own highest bit
  while (first <= position) first *= 2;
  if (position > 0)
    messages.wait(messages.recv(bytes_of(tensor), bytes, (position - first / 2 + root) % n, tag));
  for (int distance = first; position + distance < n; distance *= 2) {
    messages.send(const_bytes_of(tensor), bytes, (position + distance + root) % n, tag);
  }
  messages.wait_all();
}

WorkPtr MessageCommunicator::do_all_reduce(at::Tensor& tensor, ReduceOp op) {
  if (static_cast<int64_t>(tensor.nbytes()) <= kSmallAllReduceBytes)
    return std::make_unique<SmallReduceWork>(*this, tensor, op);
  std::vector<Share> shares;
  for (int r = 0; r < size(); ++r) shares.push_back(even_split(tensor.numel(), size(), r));
  return std::make_unique<ReduceWork>(*this, "all_reduce", tensor, tensor, std::move(shares), op,
                                      /*gather=*/true);
}

WorkPtr MessageCommunicator::do_reduce_scatter(at::Tensor& out, const at::Tensor& input,
                                               const std::vector<int64_t>& counts) {
  const int64_t row = row_elements(input);
  std::vector<Share> shares;
  for (std::size_t r = 0; r < counts.size(); ++r)
    shares.push_back({rows_before(counts, r) * row, counts[r] * row});
  return std::make_unique<ReduceWork>(*this, "reduce_scatter", input, out, std::move(shares), ReduceOp::kSum,
                                      /*gather=*/false);
}

WorkPtr MessageCommunicator::do_all_gather(at::Tensor& out, const at::Tensor& input,
                                           const std::vector<int64_t>& counts) {
  auto work = std::make_unique<ExchangeWork>(*this, "all_gather", out, input);
  const int64_t row = row_bytes(input);
  const int tag = next_tag();
  const auto own_bytes = static_cast<int64_t>(input.nbytes());
  for (int peer = 0; peer < size(); ++peer) {
    const auto j = static_cast<std::size_t>(peer);
    char* place = bytes_of(out) + rows_before(counts, j) * row;
    if (peer == rank()) {
      if (own_bytes > 0 && place != const_bytes_of(input))
        std::memcpy(place, const_bytes_of(input), static_cast<std::size_t>(own_bytes));
      continue;
    }
    work->messages.recv(place, counts[j] * row, peer, tag);
    work->messages.send(const_bytes_of(input), own_bytes, peer, tag);
  }
  return work;
}

WorkPtr MessageCommunicator::do_all_to_all(at::Tensor& out, const at::Tensor& input,
                                           const std::vector<int64_t>& out_counts,
                                           const std::vector<int64_t>& in_counts) {
  auto work = std::make_unique<ExchangeWork>(*this, "all_to_all", out, input);
  const int64_t row = row_bytes(input);
  const int tag = next_tag();
  for (int peer = 0; peer < size(); ++peer) {
    const auto j = static_cast<std::size_t>(peer);
    char* to = bytes_of(out) + rows_before(out_counts, j) * row;
    const char* from = const_bytes_of(input) + rows_before(in_counts, j) * row;
    if (peer != rank()) {
      work->messages.recv(to, out_counts[j] * row, peer, tag);
      work->messages.send(from, in_counts[j] * row, peer, tag);
    } else if (in_counts[j] * row > 0) {
      std::memcpy(to, from, static_cast<std::size_t>(in_counts[j] * row));
    }
  }
  return work;
}

WorkPtr MessageCommunicator::do_send(const at::Tensor& tensor, int to, int tag) {
  auto work = std::make_unique<ExchangeWork>(*this, "send", tensor, tensor);
  work->messages.send(const_bytes_of(tensor), static_cast<int64_t>(tensor.nbytes()), to, tag);
  return work;
}

WorkPtr MessageCommunicator::do_recv(at::Tensor& tensor, int from, int tag) {
  auto work = std::make_unique<ExchangeWork>(*this, "recv", tensor, tensor);
  work->messages.recv(bytes_of(tensor), static_cast<int64_t>(tensor.nbytes()), from, tag);
  return work;
}

void MessageCommunicator::do_barrier() {
  const int tag = next_tag();
  const char here = 1;
  std::vector<char> answers(static_cast<std::size_t>(size()));
  Messages messages(*this, "barrier");
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    messages.recv(&answers[static_cast<std::size_t>(peer)], 1, peer, tag);
    messages.send(&here, 1, peer, tag);
  }
  messages.wait_all();
}

std::unique_ptr<Communicator> MessageCommunicator::do_new_group(const std::vector<int>& group_ranks,
                                                                const std::string& name) {
  // Every rank counts, members or not, so that members agree on the prefix.
  const std::string prefix = ithaca::str("group", children_++, "/", group_ranks.front());
  std::vector<int> world_ranks;
  int own = -1;
  for (std::size_t i = 0; i < group_ranks.size(); ++i) {
    world_ranks.push_back(ranks()[static_cast<std::size_t>(group_ranks[i])]);
    if (group_ranks[i] == rank()) own = static_cast<int>(i);
  }
  if (own < 0) return nullptr;
  if (group_ranks.size() == 1) return single_rank_world(world_ranks[0], name);
  MessageContext context = context_;
  context.store = c10::make_intrusive<c10d::PrefixStore>(prefix, context_.store);
  try {
    return std::make_unique<MessageCommunicator>(
        std::move(context), transport_->subgroup(group_ranks, own, prefix), own, world_ranks, name);
  } catch (const std::exception& error) {
    throw CommunicationError(ithaca::str("rank ", ranks()[static_cast<std::size_t>(rank())],
                                         " could not connect to the other ranks of group ", name, " (",
                                         short_message(error), ")"));
  }
}

}  // namespace ithaca
