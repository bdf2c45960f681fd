// What local_transport.h connects: one process's side of the channels in shared memory between the processes
// of one machine, and the messages under way on them.
//
// A sender offers a message in the channel's bounded queue; the receiver takes offers out of it at once, wanted
// or not, so that one message never waits behind another (no head-of-line blocking, however many are under
// way), copies a message when it is both offered and wanted, and answers with its number in a second queue.
// Whichever queue is full is filled further when its reader is in a wait; every wait empties both.
#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace ithaca {

// One process writes, one reads. Lies in shared memory: all zero bytes are the empty queue.
template <class T>
class SharedQueue {
 public:
  bool full() const {
    return written_.load(std::memory_order_relaxed) - read_.load(std::memory_order_acquire) == kSlots;
  }
  // Not when full.
  void push(const T& value) {
    const uint64_t number = written_.load(std::memory_order_relaxed);
    slots_[number % kSlots] = value;
    written_.store(number + 1, std::memory_order_release);
  }
  bool empty() const {
    return written_.load(std::memory_order_acquire) == read_.load(std::memory_order_relaxed);
  }
  // Not when empty.
  T pop() {
    const uint64_t number = read_.load(std::memory_order_relaxed);
    const T value = slots_[number % kSlots];
    read_.store(number + 1, std::memory_order_release);
    return value;
  }

 private:
  static constexpr uint64_t kSlots = 64;
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  alignas(64) std::atomic<uint64_t> written_{0};
  alignas(64) std::atomic<uint64_t> read_{0};
  alignas(64) std::array<T, kSlots> slots_;
};

// Which messages belong together: those of one group and tag arrive in the order in which they were posted.
struct MessageKey {
  uint64_t group = 0, tag = 0;
  auto operator<=>(const MessageKey&) const = default;
};

// From one rank to one other.
struct LocalChannel {
  struct Offer {
    uint64_t number, address, bytes;  // of the sender's memory
    MessageKey key;
  };
  SharedQueue<Offer> offers;      // written by the sender
  SharedQueue<uint64_t> fetched;  // written by the receiver: numbers of messages that it has copied
};

// Another process of this machine. Noticed when it ends (pidfd).
class LocalPeer {
 public:
  explicit LocalPeer(pid_t pid);
  LocalPeer(LocalPeer&& other) noexcept : pid_(other.pid_), fd_(std::exchange(other.fd_, -1)) {}
  LocalPeer& operator=(LocalPeer&&) = delete;
  ~LocalPeer();
  bool watched() const { return fd_ >= 0; }
  bool ended() const;
  // Copies `bytes` at `address` of its memory. Empty, or why not.
  std::string read(uint64_t address, char* to, uint64_t bytes) const;

 private:
  pid_t pid_;
  int fd_;
};

// Shared by the groups made of the world's ranks; ranks here are the world's.
class LocalWorld {
 public:
  // `channels`: size x size, [from][to], zero; shared by all processes.
  LocalWorld(std::shared_ptr<LocalChannel> channels, std::vector<LocalPeer> peers,
             std::chrono::milliseconds timeout, int rank);

  struct Outgoing {
    uint64_t address, bytes;
    MessageKey key;
    bool fetched = false;
  };
  struct Incoming {
    char* data;
    uint64_t bytes;
    bool arrived = false;
    std::string error;
  };
  std::shared_ptr<Outgoing> send(const char* data, int64_t bytes, int to, MessageKey key);
  std::shared_ptr<Incoming> recv(char* data, int64_t bytes, int from, MessageKey key);
  // In any order. CommunicationError: the peer has ended, or nothing came within the timeout.
  void wait(const Outgoing& message, int to);
  void wait(const Incoming& message, int from);

 private:
  struct ToPeer {
    std::deque<std::shared_ptr<Outgoing>> waiting;  // for a place in the queue
    uint64_t offered = 0;
    std::unordered_map<uint64_t, std::shared_ptr<Outgoing>> under_way;  // by number
  };
  struct Match {
    LocalChannel::Offer offer;
    std::shared_ptr<Incoming> wanted;
  };
  struct FromPeer {
    struct Line {
      std::deque<LocalChannel::Offer> offers;
      std::deque<std::shared_ptr<Incoming>> wanted;
    };
    std::map<MessageKey, Line> lines;  // of what has no partner yet
    std::deque<Match> matches;         // to be copied
  };

  LocalChannel& channel(int from, int to) const;
  void pair(FromPeer& peer, const MessageKey& key);
  void post(int to);
  void fetch(int from);
  void move_messages();
  void wait_until(int peer, const std::function<bool()>& done);

  std::shared_ptr<LocalChannel> channels_;
  std::vector<LocalPeer> peers_;
  std::chrono::milliseconds timeout_;
  int rank_;
  std::vector<ToPeer> outgoing_;
  std::vector<FromPeer> incoming_;
};

}  // namespace ithaca
