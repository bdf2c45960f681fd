#include "ithaca/comm/process_world.h"

#include <csignal>
#include <exception>
#include <numeric>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "ithaca/base/error.h"
#include "ithaca/comm/gloo_transport.h"
#include "ithaca/comm/internet.h"
#include "ithaca/comm/local_transport.h"
#include "ithaca/comm/message_backend.h"
#include "ithaca/comm/nccl_backend.h"
#include "ithaca/comm/rendezvous.h"
#include "ithaca/comm/thread_world.h"

namespace ithaca {
namespace {

std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
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
  explicit StoreWorld(const ProcessWorldOptions& options) : options_(options), rendezvous_(options) {
    connect_groups();
  }

  Communicator& world() override { return *world_; }
  std::string transport() const override { return transport_; }
  void announce_failure(const std::string& summary) override { rendezvous_.announce_failure(summary); }
  std::optional<std::string> announced_failure() override { return rendezvous_.announced_failure(); }

  void finish() override {
    world_->barrier();
    rendezvous_.leave();
    world_.reset();
  }

 private:
  void connect_groups() {
    std::vector<int> ranks(static_cast<std::size_t>(options_.ranks.world_size));
    std::iota(ranks.begin(), ranks.end(), 0);
    const auto store = c10::make_intrusive<c10d::PrefixStore>("world", rendezvous_.store());
    MessageContext context{store, options_.timeout, [this] { return announced_failure(); }};
    auto messages = std::make_unique<MessageCommunicator>(std::move(context), connect_messages(store),
                                                          options_.ranks.rank, std::move(ranks), "world");
    world_ = options_.cuda ? make_nccl_communicator(std::move(messages))
                           : std::unique_ptr<Communicator>(std::move(messages));
  }

  std::unique_ptr<MessageTransport> connect_messages(const c10::intrusive_ptr<c10d::PrefixStore>& store) {
    const int rank = options_.ranks.rank, size = options_.ranks.world_size;
    try {
      std::string reason = "sockets were asked for";
      if (!options_.one_machine()) reason = "the ranks are on several machines";
      if (options_.one_machine() && options_.share_memory) {
        LocalTransportResult local =
            local_transport(store, options_.timeout, rank, size, rendezvous_.hooks());
        if (local.transport) {
          transport_ = "each other's memory (process_vm_readv)";
          return std::move(local.transport);
        }
        reason = local.reason;
      }
      const std::string address = options_.one_machine()
                                      ? "127.0.0.1"
                                      : own_address_towards(rendezvous_.host(), options_.ranks.master_port);
      transport_ = ithaca::str("Gloo on ", address, " (", reason, ")");
      const WaitingAloud aloud(ithaca::str("the other ranks to connect to ", address, " (Gloo)"),
                               options_.timeout, rendezvous_.hooks());
      return gloo_transport(store, address, options_.timeout, rank, size);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw CommunicationError(ithaca::str(
          "rank ", rank, " could not connect to the other ranks of group world (", first_line(error), ")"));
    }
  }

  ProcessWorldOptions options_;
  Rendezvous rendezvous_;
  std::string transport_;
  std::unique_ptr<Communicator> world_;
};

}  // namespace

std::unique_ptr<ProcessWorld> ProcessWorld::connect(const ProcessWorldOptions& options) {
  const RankEnvironment& ranks = options.ranks;
  ITHACA_CHECK(ranks.world_size >= 1 && ranks.rank >= 0 && ranks.rank < ranks.world_size, "rank ", ranks.rank,
               " of ", ranks.world_size);
  ITHACA_CHECK(ranks.master_port >= 0 && ranks.master_port < 65536, "port ", ranks.master_port);
  if (ranks.world_size == 1) return std::make_unique<AloneWorld>();
  // The store writes to its sockets without MSG_NOSIGNAL: when a rank dies, SIGPIPE would kill the others
  // before they can say so.
  std::signal(SIGPIPE, SIG_IGN);
  return std::make_unique<StoreWorld>(options);
}

}  // namespace ithaca
