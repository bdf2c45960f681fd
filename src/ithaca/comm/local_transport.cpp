#include "ithaca/comm/local_transport.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <utility>

#include "ithaca/base/error.h"
#include "ithaca/comm/local_world.h"

namespace ithaca {
namespace {

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

  LocalChannel* channels() const { return static_cast<LocalChannel*>(memory_); }
  const std::string& error() const { return error_; }

 private:
  std::size_t bytes_;
  void* memory_ = nullptr;
  std::string error_;
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
  std::vector<LocalPeer> peers;
  std::string failure;
  for (int r = 0; r < size; ++r) {
    const std::string& text = addresses[static_cast<std::size_t>(r)];
    const pid_t pid = std::stoi(text);
    peers.emplace_back(pid);
    uint64_t seen = 0;
    const std::string error = peers.back().read(std::stoull(text.substr(text.find(' ') + 1)),
                                                reinterpret_cast<char*>(&seen), sizeof seen);
    if (!error.empty()) failure = ithaca::str("process_vm_readv: ", error);
    if (error.empty() && seen != 0x69746861636121ULL + static_cast<uint64_t>(r)) failure = "read other bytes";
    if (!peers.back().watched()) failure = ithaca::str("pidfd_open: ", std::strerror(errno));
  }
  if (failure = agree(*store, "reads", failure, rank, size); !failure.empty()) return {nullptr, failure};

  const std::size_t bytes =
      static_cast<std::size_t>(size) * static_cast<std::size_t>(size) * sizeof(LocalChannel);
  std::string name;
  std::shared_ptr<Segment> segment;
  if (rank == 0) {
    name = random_name();
    segment = std::make_shared<Segment>(name, bytes, /*create=*/true);
    put(*store, "local/segment", name);
  } else {
    name = take(*store, "local/segment");
    segment = std::make_shared<Segment>(name, bytes, /*create=*/false);
  }
  failure = agree(*store, "attached", segment->error(), rank, size);
  if (rank == 0) shm_unlink(name.c_str());
  if (!failure.empty()) return {nullptr, failure};
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) ranks.push_back(r);
  return {std::make_unique<LocalTransport>(
              std::make_shared<LocalWorld>(std::shared_ptr<LocalChannel>(segment, segment->channels()),
                                           std::move(peers), timeout, rank),
              std::move(ranks), "world"),
          ""};
}

}  // namespace ithaca
