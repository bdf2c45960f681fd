#include "ithaca/comm/local_transport.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <numeric>
#include <sstream>
#include <utility>

#include "ithaca/base/error.h"
#include "ithaca/comm/local_world.h"
#include "ithaca/comm/process_memory.h"

namespace ithaca {
namespace {

template <class Posted>
class LocalMessage : public Message {
 public:
  LocalMessage(std::shared_ptr<LocalWorld> world, std::shared_ptr<Posted> posted, int peer)
      : world_(std::move(world)), posted_(std::move(posted)), peer_(peer) {}
  void wait() override { world_->wait(*posted_, peer_); }

 private:
  std::shared_ptr<LocalWorld> world_;
  std::shared_ptr<Posted> posted_;
  int peer_;
};

class LocalTransport : public MessageTransport {
 public:
  LocalTransport(std::shared_ptr<LocalWorld> world, std::vector<int> ranks, const std::string& path)
      : world_(std::move(world)),
        ranks_(std::move(ranks)),
        path_(path),
        group_(std::hash<std::string>()(path)) {}

  std::unique_ptr<Message> send(const char* data, int64_t bytes, int to, int tag) override {
    const int peer = ranks_[static_cast<std::size_t>(to)];
    return std::make_unique<LocalMessage<LocalWorld::Outgoing>>(
        world_, world_->send(data, bytes, peer, {group_, static_cast<uint64_t>(tag)}), peer);
  }
  std::unique_ptr<Message> recv(char* data, int64_t bytes, int from, int tag) override {
    const int peer = ranks_[static_cast<std::size_t>(from)];
    return std::make_unique<LocalMessage<LocalWorld::Incoming>>(
        world_, world_->recv(data, bytes, peer, {group_, static_cast<uint64_t>(tag)}), peer);
  }
  std::unique_ptr<MessageTransport> subgroup(const std::vector<int>& ranks, int own,
                                             const std::string& name) override {
    std::vector<int> members;
    for (const int rank : ranks) members.push_back(ranks_[static_cast<std::size_t>(rank)]);
    return std::make_unique<LocalTransport>(world_, std::move(members), path_ + "/" + name);
  }

 private:
  std::shared_ptr<LocalWorld> world_;
  std::vector<int> ranks_;  // of the world
  std::string path_;        // of group names: tells the messages of one group from another's
  uint64_t group_;
};

using Bytes = std::vector<uint8_t>;

// What the ranks of one machine tell each other through the store while they set up.
class Handshake {
 public:
  Handshake(c10d::Store& store, std::chrono::milliseconds timeout, int rank, int size, const WaitHooks& hooks)
      : store_(store), timeout_(timeout), rank_(rank), size_(size), hooks_(hooks) {}

  // Everybody's `mine`, by rank.
  std::vector<std::string> share(const std::string& what, const std::string& mine) {
    store_.set(key(what, rank_), Bytes(mine.begin(), mine.end()));
    std::vector<std::string> all;
    for (int r = 0; r < size_; ++r) all.push_back(take(what, r));
    return all;
  }
  // The first failure that any rank reports, the same on every rank; empty: none.
  std::string agree(const std::string& what, const std::string& failure) {
    const std::vector<std::string> all = share(what, failure.empty() ? "ok" : failure);
    for (int r = 0; r < size_; ++r)
      if (all[static_cast<std::size_t>(r)] != "ok")
        return ithaca::str("rank ", r, ": ", all[static_cast<std::size_t>(r)]);
    return "";
  }

 private:
  static std::string key(const std::string& what, int rank) { return ithaca::str("local/", what, "/", rank); }
  std::string take(const std::string& what, int rank) {
    const std::string name = key(what, rank);
    const auto waited_for = [&] { return ithaca::str("rank ", rank, " of this machine to connect"); };
    if (!wait_aloud([&] { return store_.check({name}); }, timeout_, hooks_, waited_for))
      throw CommunicationError(
          ithaca::str("rank ", rank, " did not connect within ", timeout_.count(), " ms"));
    const Bytes bytes = store_.get(name);
    return {bytes.begin(), bytes.end()};
  }

  c10d::Store& store_;
  std::chrono::milliseconds timeout_;
  int rank_, size_;
  const WaitHooks& hooks_;
};

// Whether this process can read from all others and notice their ends: empty, or why not.
std::string connect_peers(Handshake& handshake, int rank, int size, std::vector<LocalPeer>& peers) {
  constexpr uint64_t kProbe = 0x69746861636121;
  const uint64_t probe = kProbe + static_cast<uint64_t>(rank);
  const std::vector<std::string> addresses =
      handshake.share("probe", ithaca::str(getpid(), " ", reinterpret_cast<uint64_t>(&probe)));
  std::string failure;
  for (int r = 0; r < size; ++r) {
    std::istringstream text(addresses[static_cast<std::size_t>(r)]);
    pid_t pid = 0;
    uint64_t address = 0, seen = 0;
    text >> pid >> address;
    peers.emplace_back(pid);
    if (!peers.back().watched()) failure = ithaca::str("pidfd_open: ", std::strerror(errno));
    const std::string error = peers.back().read(address, reinterpret_cast<char*>(&seen), sizeof seen);
    if (!error.empty()) failure = ithaca::str("process_vm_readv: ", error);
    if (error.empty() && seen != kProbe + static_cast<uint64_t>(r)) failure = "read other bytes";
  }
  return handshake.agree("reads", failure);  // also: `probe` is there until everybody has read it
}

}  // namespace

LocalTransportResult local_transport(const c10::intrusive_ptr<c10d::Store>& store,
                                     std::chrono::milliseconds timeout, int rank, int size,
                                     const WaitHooks& hooks) {
  Handshake handshake(*store, timeout, rank, size, hooks);
  const std::string identity = machine_identity();
  for (const std::string& other : handshake.share("machine", identity))
    if (other.empty() || other != identity) return {nullptr, "the ranks are not on one machine"};
  std::string failure = handshake.agree("filter", process_memory_filter());
  if (!failure.empty()) return {nullptr, failure};

  // Where Yama guards processes (ptrace_scope 1), this lets the other children of the launcher read.
  prctl(PR_SET_PTRACER, getppid(), 0, 0, 0);
  std::vector<LocalPeer> peers;
  if (failure = connect_peers(handshake, rank, size, peers); !failure.empty()) return {nullptr, failure};

  const std::size_t bytes =
      static_cast<std::size_t>(size) * static_cast<std::size_t>(size) * sizeof(LocalChannel);
  std::shared_ptr<SharedMemory> memory;
  if (rank == 0) memory = SharedMemory::make(bytes);
  const std::string name = handshake.share("memory", memory ? memory->name() : "").front();
  if (rank != 0) memory = SharedMemory::attach(name, bytes);
  if (failure = handshake.agree("attached", memory->error()); !failure.empty()) return {nullptr, failure};

  std::vector<int> ranks(static_cast<std::size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  std::shared_ptr<LocalChannel> channels(memory, static_cast<LocalChannel*>(memory->data()));
  return {std::make_unique<LocalTransport>(
              std::make_shared<LocalWorld>(std::move(channels), std::move(peers), timeout, rank),
              std::move(ranks), "world"),
          ""};
}

}  // namespace ithaca
