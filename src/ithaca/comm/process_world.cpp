#include "ithaca/comm/process_world.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <numeric>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "ithaca/base/error.h"
#include "ithaca/comm/gloo_transport.h"
#include "ithaca/comm/local_transport.h"
#include "ithaca/comm/message_backend.h"
#include "ithaca/comm/nccl_backend.h"
#include "ithaca/comm/thread_world.h"

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<uint8_t>;
using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Bytes to_bytes(const std::string& text) {
  return Bytes(text.begin(), text.end());
}
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

Addresses resolve(const std::string& host, int port, int socket_type) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = socket_type;
  addrinfo* list = nullptr;
  const int failure = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (failure != 0)
    throw CommunicationError(
        ithaca::str("MASTER_ADDR ", host, " cannot be resolved: ", gai_strerror(failure)));
  return {list, &freeaddrinfo};
}

// A socket that listens on the interface of `host` only: left alone, TCPStore would listen on all of them.
int listen_on(const std::string& host, int port) {
  const Addresses addresses = resolve(host, port, SOCK_STREAM);
  const int fd = socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (fd < 0 || bind(fd, addresses->ai_addr, addresses->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
    const std::string cause = std::strerror(errno);
    if (fd >= 0) close(fd);
    throw CommunicationError(ithaca::str("rank 0 cannot listen on ", host, ":", port, ": ", cause,
                                         ". Choose another MASTER_PORT."));
  }
  return fd;
}

// The address of the interface that leads to `host`: connecting a datagram socket sends nothing.
std::string own_address_towards(const std::string& host, int port) {
  const Addresses addresses = resolve(host, port, SOCK_DGRAM);
  const int fd = socket(addresses->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  char text[NI_MAXHOST] = "";
  const bool known = fd >= 0 && ::connect(fd, addresses->ai_addr, addresses->ai_addrlen) == 0 &&
                     getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0 &&
                     getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text, sizeof text, nullptr, 0,
                                 NI_NUMERICHOST) == 0;
  if (fd >= 0) close(fd);
  if (!known) throw CommunicationError(ithaca::str("no network interface leads to MASTER_ADDR ", host));
  return text;
}

class AloneWorld : public ProcessWorld {
 public:
  Communicator& world() override { return *world_; }
  std::string transport() const override { return "nothing (one rank)"; }
  void announce_failure(const std::string& summary) override {}
  std::optional<std::string> announced_failure() override { return std::nullopt; }
  void finish() override {}

 private:
  std::unique_ptr<Communicator> world_ = single_rank_world();
};

class StoreWorld : public ProcessWorld {
 public:
  explicit StoreWorld(const ProcessWorldOptions& options)
      : options_(options),
        local_(options.local_world_size == options.world_size),
        host_(local_ && !options.join_agent_store ? "127.0.0.1" : options.master_addr),
        serves_(options.rank == 0 && !options.join_agent_store) {
    open_store();
    meet();
    connect_groups();
  }

  Communicator& world() override { return *world_; }
  std::string transport() const override { return transport_; }

  void announce_failure(const std::string& summary) override {
    try {
      store_->compareSet("abort", Bytes{}, to_bytes(ithaca::str("rank ", options_.rank, ": ", summary)));
    } catch (const std::exception&) {
      // The store went down with its rank: nobody is left to be told this way, closed connections tell the
      // others.
    }
  }

  std::optional<std::string> announced_failure() override {
    try {
      if (!store_->check({"abort"})) return std::nullopt;
      const Bytes summary = store_->get("abort");
      return std::string(summary.begin(), summary.end());
    } catch (const std::exception&) {
      return std::nullopt;  // the store's rank is gone
    }
  }

  void finish() override {
    world_->barrier();
    store_->set(ithaca::str("left/", options_.rank), Bytes{1});
    if (serves_)
      wait_for_all("left/", std::min<std::chrono::milliseconds>(options_.timeout, std::chrono::seconds(10)));
    world_.reset();
  }

 private:
  void open_store() {
    c10d::TCPStoreOptions store;
    store.isServer = serves_;
    store.port = static_cast<uint16_t>(options_.master_port);
    store.numWorkers = static_cast<std::size_t>(options_.world_size);
    store.waitWorkers = false;
    store.timeout = options_.timeout;
    if (serves_)
      store.masterListenFd =
          options_.listen_fd >= 0 ? options_.listen_fd : listen_on(host_, options_.master_port);
    try {
      const std::string prefix = ithaca::str("ithaca/", options_.restart_count);
      store_ =
          c10::make_intrusive<c10d::PrefixStore>(prefix, c10::make_intrusive<c10d::TCPStore>(host_, store));
    } catch (const std::exception& error) {
      throw CommunicationError(ithaca::str("found no rendezvous at ", host_, ":", options_.master_port,
                                           " within ", options_.timeout.count(), " ms: ", first_line(error)));
    }
  }

  // The ranks whose key is not there when the time is up; throws when a rank announces a failure meanwhile.
  std::string wait_for_all(const std::string& prefix, std::chrono::milliseconds timeout) {
    const Clock::time_point deadline = Clock::now() + timeout;
    auto pause = std::chrono::milliseconds(1);
    for (int rank = 0; rank < options_.world_size;) {
      if (store_->check({ithaca::str(prefix, rank)})) {
        ++rank;
        continue;
      }
      if (const auto failure = announced_failure()) throw CommunicationError("a rank failed: " + *failure);
      if (Clock::now() > deadline) return missing(prefix);
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::milliseconds(50));
    }
    return "";
  }

  std::string missing(const std::string& prefix) {
    std::string ranks;
    for (int rank = 0; rank < options_.world_size; ++rank) {
      if (!store_->check({ithaca::str(prefix, rank)}))
        ranks += (ranks.empty() ? "" : ", ") + std::to_string(rank);
    }
    return ranks;
  }

  void meet() {
    std::string late;
    try {
      store_->set(ithaca::str("here/", options_.rank), Bytes{1});
      late = wait_for_all("here/", options_.timeout);
    } catch (const CommunicationError&) {
      throw;
    } catch (const std::exception& error) {
      throw CommunicationError(
          ithaca::str("lost the rendezvous at ", host_, ":", options_.master_port, ": ", first_line(error)));
    }
    if (late.empty()) return;
    throw CommunicationError(ithaca::str("of ", options_.world_size, " ranks these did not come to ", host_,
                                         ":", options_.master_port, " within ", options_.timeout.count(),
                                         " ms: ", late));
  }

  void connect_groups() {
    std::vector<int> ranks(static_cast<std::size_t>(options_.world_size));
    std::iota(ranks.begin(), ranks.end(), 0);
    const auto store = c10::make_intrusive<c10d::PrefixStore>("world", store_);
    MessageContext context{store, options_.timeout, [this] { return announced_failure(); }};
    auto messages = std::make_unique<MessageCommunicator>(std::move(context), connect_messages(store),
                                                          options_.rank, std::move(ranks), "world");
    world_ = options_.cuda ? make_nccl_communicator(std::move(messages))
                           : std::unique_ptr<Communicator>(std::move(messages));
  }

  std::unique_ptr<MessageTransport> connect_messages(const c10::intrusive_ptr<c10d::PrefixStore>& store) {
    try {
      std::string reason = "sockets were asked for";
      if (!local_) reason = "the ranks are on several machines";
      if (local_ && options_.share_memory) {
        LocalTransportResult local =
            local_transport(store, options_.timeout, options_.rank, options_.world_size);
        if (local.transport) {
          transport_ = "each other's memory (process_vm_readv)";
          return std::move(local.transport);
        }
        reason = local.reason;
      }
      const std::string address = local_ ? "127.0.0.1" : own_address_towards(host_, options_.master_port);
      transport_ = ithaca::str("Gloo on ", address, " (", reason, ")");
      return gloo_transport(store, address, options_.timeout, options_.rank, options_.world_size);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw CommunicationError(ithaca::str("rank ", options_.rank,
                                           " could not connect to the other ranks of group world (",
                                           first_line(error), ")"));
    }
  }

  ProcessWorldOptions options_;
  bool local_;
  std::string host_;
  bool serves_;  // this process runs the store
  c10::intrusive_ptr<c10d::Store> store_;
  std::string transport_;
  std::unique_ptr<Communicator> world_;
};

}  // namespace

std::unique_ptr<ProcessWorld> ProcessWorld::connect(const ProcessWorldOptions& options) {
  ITHACA_CHECK(options.world_size >= 1 && options.rank >= 0 && options.rank < options.world_size, "rank ",
               options.rank, " of ", options.world_size);
  ITHACA_CHECK(options.master_port >= 0 && options.master_port < 65536, "port ", options.master_port);
  if (options.world_size == 1) return std::make_unique<AloneWorld>();
  // The store writes to its sockets without MSG_NOSIGNAL: when a rank dies, SIGPIPE would kill the others
  // before they can say so.
  std::signal(SIGPIPE, SIG_IGN);
  return std::make_unique<StoreWorld>(options);
}

}  // namespace ithaca
