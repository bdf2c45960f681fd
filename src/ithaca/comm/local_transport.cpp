#include "ithaca/comm/local_transport.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kSlots = 64;  // messages of one sender to one receiver that may be under way

// What the receiver needs in order to fetch a message. Message number n of a channel lies in slot n mod
// kSlots; the slot is free again when `done` is n + 1.
struct Slot {
  uint64_t address = 0, bytes = 0, group = 0, tag = 0;
  std::atomic<uint64_t> done{0};
};

// From one rank to one other. Shared memory: zero bytes are its initial state.
struct Channel {
  std::atomic<uint64_t> posted{0};  // messages so far
  std::array<Slot, kSlots> slots;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

class Segment {
 public:
  Segment(const std::string& name, std::size_t bytes, bool create) : bytes_(bytes) {
    const int fd = shm_open(name.c_str(), O_RDWR | (create ? O_CREAT | O_EXCL : 0), 0600);
    if (fd < 0 || (create && ftruncate(fd, static_cast<off_t>(bytes)) != 0)) {
      error_ = ithaca::str("shared memory: ", std::strerror(errno));
      if (fd >= 0) close(fd);
      return;
    }
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
      error_ = ithaca::str("shared memory: ", std::strerror(errno));
    } else {
      memory_ = memory;
    }
    close(fd);
  }
  ~Segment() {
    if (memory_) munmap(memory_, bytes_);
  }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  Channel* channels() const { return static_cast<Channel*>(memory_); }
  const std::string& error() const { return error_; }

 private:
  std::size_t bytes_;
  void* memory_ = nullptr;
  std::string error_;
};

// Empty, or why not.
std::string read_from(pid_t process, uint64_t address, char* to, uint64_t bytes) {
  while (bytes > 0) {
    const iovec here{to, bytes}, there{reinterpret_cast<void*>(address), bytes};
    const ssize_t got = process_vm_readv(process, &here, 1, &there, 1, 0);
    if (got <= 0) return got == 0 ? "nothing could be read" : std::strerror(errno);
    to += got;
    address += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
  return "";
}

class Peer {
 public:
  explicit Peer(pid_t pid) : pid_(pid), fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
  Peer(Peer&& other) noexcept : pid_(other.pid_), fd_(std::exchange(other.fd_, -1)) {}
  Peer& operator=(Peer&&) = delete;
  ~Peer() {
    if (fd_ >= 0) close(fd_);
  }
  pid_t pid() const { return pid_; }
  bool watched() const { return fd_ >= 0; }
  bool ended() const {
    pollfd state{fd_, POLLIN, 0};
    return poll(&state, 1, 0) == 1;
  }

 private:
  pid_t pid_;
  int fd_;
};

// The connections of one process to all others; shared by the groups made of them. Ranks are the world's.
class LocalWorld {
 public:
  LocalWorld(std::unique_ptr<Segment> segment, std::vector<Peer> peers, std::chrono::milliseconds timeout,
             int rank)
      : segment_(std::move(segment)),
        peers_(std::move(peers)),
        timeout_(timeout),
        rank_(rank),
        outgoing_(peers_.size()),
        incoming_(peers_.size()) {}

  struct Outgoing {
    uint64_t address, bytes, group, tag;
    std::optional<uint64_t> number;  // once it lies in a slot
  };
  struct Incoming {
    char* data;
    uint64_t bytes, group, tag;
    bool arrived = false;
    std::string error;
  };

  std::shared_ptr<Outgoing> send(const char* data, int64_t bytes, int to, uint64_t group, int tag) {
    auto message =
        std::make_shared<Outgoing>(Outgoing{reinterpret_cast<uint64_t>(data), static_cast<uint64_t>(bytes),
                                            group, static_cast<uint64_t>(tag), std::nullopt});
    outgoing_[index(to)].push_back(message);
    post(to);
    return message;
  }
  std::shared_ptr<Incoming> recv(char* data, int64_t bytes, int from, uint64_t group, int tag) {
    auto message = std::make_shared<Incoming>(
        Incoming{data, static_cast<uint64_t>(bytes), group, static_cast<uint64_t>(tag), false, ""});
    incoming_[index(from)].wanted.push_back(message);
    return message;
  }

  void wait(const Outgoing& message, int to) {
    wait_until(to, [&] {
      return message.number && channel(rank_, to).slots[*message.number % kSlots].done.load(
                                   std::memory_order_acquire) > *message.number;
    });
  }
  void wait(const Incoming& message, int from) {
    wait_until(from, [&] { return message.arrived; });
    if (!message.error.empty()) throw CommunicationError(message.error);
  }

 private:
  // A message that a sender has posted and this rank has not fetched.
  struct Offer {
    uint64_t number, address, bytes, group, tag;
  };
  struct FromPeer {
    uint64_t seen = 0;  // offers taken from the channel
    std::deque<Offer> offers;
    std::deque<std::shared_ptr<Incoming>> wanted;
  };

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  Channel& channel(int from, int to) { return segment_->channels()[index(from) * peers_.size() + index(to)]; }

  // As many waiting messages as there are free slots.
  void post(int to) {
    Channel& out = channel(rank_, to);
    auto& waiting = outgoing_[index(to)];
    while (!waiting.empty()) {
      const uint64_t number = out.posted.load(std::memory_order_relaxed);
      Slot& slot = out.slots[number % kSlots];
      if (number >= kSlots && slot.done.load(std::memory_order_acquire) != number - kSlots + 1) return;
      Outgoing& message = *waiting.front();
      slot.address = message.address;
      slot.bytes = message.bytes;
      slot.group = message.group;
      slot.tag = message.tag;
      message.number = number;
      out.posted.store(number + 1, std::memory_order_release);
      waiting.pop_front();
    }
  }

  // Copies what is both offered and wanted. True when something moved.
  bool fetch(int from) {
    FromPeer& peer = incoming_[index(from)];
    Channel& in = channel(from, rank_);
    const uint64_t posted = in.posted.load(std::memory_order_acquire);
    for (; peer.seen < posted; ++peer.seen) {
      const Slot& slot = in.slots[peer.seen % kSlots];
      peer.offers.push_back({peer.seen, slot.address, slot.bytes, slot.group, slot.tag});
    }
    bool moved = false;
    for (auto wanted = peer.wanted.begin(); wanted != peer.wanted.end() && !peer.offers.empty();) {
      Incoming& message = **wanted;
      const auto offer = std::find_if(peer.offers.begin(), peer.offers.end(), [&](const Offer& o) {
        return o.group == message.group && o.tag == message.tag;
      });
      if (offer == peer.offers.end()) {
        ++wanted;
        continue;
      }
      if (offer->bytes != message.bytes) {
        message.error =
            ithaca::str("it sent ", offer->bytes, " bytes where ", message.bytes, " were expected");
      } else {
        const std::string error =
            read_from(peers_[index(from)].pid(), offer->address, message.data, offer->bytes);
        if (!error.empty()) message.error = "its memory cannot be read: " + error;
      }
      message.arrived = true;
      in.slots[offer->number % kSlots].done.store(offer->number + 1, std::memory_order_release);
      peer.offers.erase(offer);
      wanted = peer.wanted.erase(wanted);
      moved = true;
    }
    return moved;
  }

  bool move_messages() {
    bool moved = false;
    for (int r = 0; r < static_cast<int>(peers_.size()); ++r) {
      if (r == rank_) continue;
      post(r);
      moved = fetch(r) || moved;
    }
    return moved;
  }

  // Spins for a moment (a neighbour in step answers in microseconds), then leaves the core to others.
  void wait_until(int peer, const std::function<bool()>& done) {
    constexpr std::chrono::microseconds kSpin(200), kYield(5000);
    Clock::time_point begin = Clock::now(), looked = begin;
    while (move_messages(), !done()) {
      const Clock::time_point now = Clock::now();
      const auto idle = now - begin;
      if (idle > timeout_)
        throw CommunicationError(ithaca::str("nothing came within ", timeout_.count(), "ms"));
      if (now - looked > std::chrono::milliseconds(2)) {
        looked = now;
        // What it posted before its end cannot be fetched either: its memory is gone.
        const bool ended = peers_[index(peer)].ended();
        if (ended && !done()) throw CommunicationError("its process has ended");
      }
      if (idle > kYield) {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      } else if (idle > kSpin) {
        std::this_thread::yield();
      }
    }
  }

  std::unique_ptr<Segment> segment_;
  std::vector<Peer> peers_;
  std::chrono::milliseconds timeout_;
  int rank_;
  std::vector<std::deque<std::shared_ptr<Outgoing>>> outgoing_;  // by receiver: those without a slot
  std::vector<FromPeer> incoming_;                               // by sender
};

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
        world_, world_->send(data, bytes, peer, group_, tag), peer);
  }
  std::unique_ptr<Message> recv(char* data, int64_t bytes, int from, int tag) override {
    const int peer = ranks_[static_cast<std::size_t>(from)];
    return std::make_unique<LocalMessage<LocalWorld::Incoming>>(
        world_, world_->recv(data, bytes, peer, group_, tag), peer);
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

// What tells whether two processes can reach each other's memory by number.
std::string machine_identity() {
  std::array<char, PATH_MAX> space{};
  if (readlink("/proc/self/ns/pid", space.data(), space.size() - 1) < 0) return "";
  std::string boot;
  if (!(std::ifstream("/proc/sys/kernel/random/boot_id") >> boot)) return "";
  return ithaca::str(boot, " ", space.data(), " ", geteuid());
}

using Bytes = std::vector<uint8_t>;
void put(c10d::Store& store, const std::string& key, const std::string& text) {
  store.set(key, Bytes(text.begin(), text.end()));
}
std::string take(c10d::Store& store, const std::string& key) {
  const Bytes bytes = store.get(key);
  return {bytes.begin(), bytes.end()};
}

// Everybody's `mine`, by rank.
std::vector<std::string> share(c10d::Store& store, const std::string& what, const std::string& mine, int rank,
                               int size) {
  put(store, ithaca::str("local/", what, "/", rank), mine);
  std::vector<std::string> all;
  for (int r = 0; r < size; ++r) all.push_back(take(store, ithaca::str("local/", what, "/", r)));
  return all;
}

std::string random_name() {
  std::random_device source;
  std::string name = "/ithaca-";
  for (int i = 0; i < 4; ++i) name += ithaca::str(source(), i < 3 ? "-" : "");
  return name;
}

// The first failure that any rank reports, the same on every rank; empty: none.
std::string agree(c10d::Store& store, const std::string& what, const std::string& failure, int rank,
                  int size) {
  const std::vector<std::string> all = share(store, what, failure.empty() ? "ok" : failure, rank, size);
  for (int r = 0; r < size; ++r)
    if (all[static_cast<std::size_t>(r)] != "ok")
      return ithaca::str("rank ", r, ": ", all[static_cast<std::size_t>(r)]);
  return "";
}

}  // namespace

LocalTransportResult local_transport(const c10::intrusive_ptr<c10d::Store>& store,
                                     std::chrono::milliseconds timeout, int rank, int size) {
  const std::string identity = machine_identity();
  for (const std::string& other : share(*store, "machine", identity, rank, size))
    if (other.empty() || other != identity) return {nullptr, "the ranks are not on one machine"};

  // Where Yama guards processes (ptrace_scope 1), this lets the other children of the launcher read.
  prctl(PR_SET_PTRACER, getppid(), 0, 0, 0);
  const uint64_t probe = 0x69746861636121ULL + static_cast<uint64_t>(rank);
  const std::vector<std::string> addresses =
      share(*store, "probe", ithaca::str(getpid(), " ", reinterpret_cast<uint64_t>(&probe)), rank, size);
  std::vector<Peer> peers;
  std::string failure;
  for (int r = 0; r < size; ++r) {
    const std::string& text = addresses[static_cast<std::size_t>(r)];
    const pid_t pid = std::stoi(text);
    peers.emplace_back(pid);
    uint64_t seen = 0;
    const std::string error = read_from(pid, std::stoull(text.substr(text.find(' ') + 1)),
                                        reinterpret_cast<char*>(&seen), sizeof seen);
    if (!error.empty()) failure = ithaca::str("process_vm_readv: ", error);
    if (error.empty() && seen != 0x69746861636121ULL + static_cast<uint64_t>(r)) failure = "read other bytes";
    if (!peers.back().watched()) failure = ithaca::str("pidfd_open: ", std::strerror(errno));
  }
  if (failure = agree(*store, "reads", failure, rank, size); !failure.empty()) return {nullptr, failure};

  const std::size_t bytes = static_cast<std::size_t>(size) * static_cast<std::size_t>(size) * sizeof(Channel);
  std::string name;
  std::unique_ptr<Segment> segment;
  if (rank == 0) {
    name = random_name();
    segment = std::make_unique<Segment>(name, bytes, /*create=*/true);
    put(*store, "local/segment", name);
  } else {
    name = take(*store, "local/segment");
    segment = std::make_unique<Segment>(name, bytes, /*create=*/false);
  }
  failure = agree(*store, "attached", segment->error(), rank, size);
  if (rank == 0) shm_unlink(name.c_str());
  if (!failure.empty()) return {nullptr, failure};
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) ranks.push_back(r);
  return {std::make_unique<LocalTransport>(
              std::make_shared<LocalWorld>(std::move(segment), std::move(peers), timeout, rank),
              std::move(ranks), "world"),
          ""};
}

}  // namespace ithaca
