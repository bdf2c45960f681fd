#include "ithaca/comm/local_world.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "ithaca/base/error.h"

namespace ithaca {

using Clock = std::chrono::steady_clock;

LocalPeer::LocalPeer(pid_t pid) : pid_(pid), fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}

LocalPeer::~LocalPeer() {
  if (fd_ >= 0) close(fd_);
}

bool LocalPeer::ended() const {
  pollfd state{fd_, POLLIN, 0};
  return poll(&state, 1, 0) == 1;
}

std::string LocalPeer::read(uint64_t address, char* to, uint64_t bytes) const {
  while (bytes > 0) {
    const iovec here{to, bytes}, there{reinterpret_cast<void*>(address), bytes};
    const ssize_t got = process_vm_readv(pid_, &here, 1, &there, 1, 0);
    if (got <= 0) return got == 0 ? "nothing could be read" : std::strerror(errno);
    to += got;
    address += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
  return "";
}

LocalWorld::LocalWorld(std::shared_ptr<LocalChannel> channels, std::vector<LocalPeer> peers,
                       std::chrono::milliseconds timeout, int rank)
    : channels_(std::move(channels)),
      peers_(std::move(peers)),
      timeout_(timeout),
      rank_(rank),
      outgoing_(peers_.size()),
      incoming_(peers_.size()) {}

LocalChannel& LocalWorld::channel(int from, int to) const {
  return channels_.get()[static_cast<std::size_t>(from) * peers_.size() + static_cast<std::size_t>(to)];
}

std::shared_ptr<LocalWorld::Outgoing> LocalWorld::send(const char* data, int64_t bytes, int to,
                                                       MessageKey key) {
  auto message = std::make_shared<Outgoing>(
      Outgoing{reinterpret_cast<uint64_t>(data), static_cast<uint64_t>(bytes), key});
  outgoing_[static_cast<std::size_t>(to)].waiting.push_back(message);
  post(to);
  return message;
}

std::shared_ptr<LocalWorld::Incoming> LocalWorld::recv(char* data, int64_t bytes, int from, MessageKey key) {
  auto message = std::make_shared<Incoming>(Incoming{data, static_cast<uint64_t>(bytes), false, ""});
  FromPeer& peer = incoming_[static_cast<std::size_t>(from)];
  peer.lines[key].wanted.push_back(message);
  pair(peer, key);
  return message;
}

void LocalWorld::wait(const Outgoing& message, int to) {
  wait_until(to, [&] { return message.fetched; });
}

void LocalWorld::wait(const Incoming& message, int from) {
  wait_until(from, [&] { return message.arrived; });
  if (!message.error.empty()) throw CommunicationError(message.error);
}

// The first offer of a key is for the first receive of that key.
void LocalWorld::pair(FromPeer& peer, const MessageKey& key) {
  const auto found = peer.lines.find(key);
  FromPeer::Line& line = found->second;
  while (!line.offers.empty() && !line.wanted.empty()) {
    peer.matches.push_back({line.offers.front(), std::move(line.wanted.front())});
    line.offers.pop_front();
    line.wanted.pop_front();
  }
  if (line.offers.empty() && line.wanted.empty()) peer.lines.erase(found);
}

// Learns what the receiver has copied, offers as many of the waiting messages as there is room for.
void LocalWorld::post(int to) {
  LocalChannel& out = channel(rank_, to);
  ToPeer& peer = outgoing_[static_cast<std::size_t>(to)];
  while (!out.fetched.empty()) {
    const auto message = peer.under_way.find(out.fetched.pop());
    ITHACA_CHECK(message != peer.under_way.end(), "an answer to a message that is not under way");
    message->second->fetched = true;
    peer.under_way.erase(message);
  }
  while (!peer.waiting.empty() && !out.offers.full()) {
    const std::shared_ptr<Outgoing> message = std::move(peer.waiting.front());
    peer.waiting.pop_front();
    const uint64_t number = peer.offered++;
    peer.under_way.emplace(number, message);
    out.offers.push({number, message->address, message->bytes, message->key});
  }
}

// Takes what is offered, copies what is also wanted while there is room for the answers.
void LocalWorld::fetch(int from) {
  LocalChannel& in = channel(from, rank_);
  FromPeer& peer = incoming_[static_cast<std::size_t>(from)];
  while (!in.offers.empty()) {
    const LocalChannel::Offer offer = in.offers.pop();
    peer.lines[offer.key].offers.push_back(offer);
    pair(peer, offer.key);
  }
  while (!peer.matches.empty() && !in.fetched.full()) {
    const Match match = std::move(peer.matches.front());
    peer.matches.pop_front();
    Incoming& message = *match.wanted;
    if (match.offer.bytes != message.bytes) {
      message.error =
          ithaca::str("it sent ", match.offer.bytes, " bytes where ", message.bytes, " were expected");
    } else {
      const std::string error =
          peers_[static_cast<std::size_t>(from)].read(match.offer.address, message.data, message.bytes);
      if (!error.empty()) message.error = "its memory cannot be read: " + error;
    }
    message.arrived = true;
    in.fetched.push(match.offer.number);
  }
}

void LocalWorld::move_messages() {
  for (int r = 0; r < static_cast<int>(peers_.size()); ++r) {
    if (r == rank_) continue;
    post(r);
    fetch(r);
  }
}

// Spins for a moment (a neighbour in step answers in microseconds), then leaves the core to others.
void LocalWorld::wait_until(int peer, const std::function<bool()>& done) {
  constexpr std::chrono::microseconds kSpin(200), kYield(5000);
  const Clock::time_point begin = Clock::now();
  Clock::time_point looked = begin;
  while (move_messages(), !done()) {
    const Clock::time_point now = Clock::now();
    const auto idle = now - begin;
    if (idle > timeout_)
      throw CommunicationError(ithaca::str("nothing came within ", timeout_.count(), "ms"));
    if (now - looked > std::chrono::milliseconds(2)) {
      looked = now;
      // What it offered before its end cannot be copied: its memory is gone. What it answered can be read.
      if (peers_[static_cast<std::size_t>(peer)].ended() && (move_messages(), !done()))
        throw CommunicationError("its process has ended");
    }
    if (idle > kYield) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    } else if (idle > kSpin) {
      std::this_thread::yield();
    }
  }
}

}  // namespace ithaca
