#include "ithaca/comm/rendezvous.h"

#include <algorithm>
#include <exception>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "ithaca/base/error.h"
#include "ithaca/comm/internet.h"

namespace ithaca {
namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<uint8_t>;
using namespace std::chrono_literals;

constexpr auto kListenEvery = 200ms;  // for a failure of another rank
constexpr auto kUntilHeard = 2s;      // that the serving rank stays after its own

Bytes to_bytes(const std::string& text) {
  return Bytes(text.begin(), text.end());
}
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

std::chrono::milliseconds until(Clock::time_point deadline) {
  return std::max(1ms, std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()));
}

}  // namespace

Rendezvous::Rendezvous(const ProcessWorldOptions& options)
    : options_(options),
      host_(options.one_machine() && !options.ranks.agent_store ? "127.0.0.1" : options.ranks.master_addr),
      serves_(options.ranks.rank == 0 && !options.ranks.agent_store) {
  if (serves_) {
    serve();
  } else {
    join();
  }
  listener_ = std::thread([this] { listen_for_failure(); });
  try {
    meet();
  } catch (...) {
    over_ = true;
    listener_.join();
    throw;
  }
}

Rendezvous::~Rendezvous() {
  over_ = true;
  if (listener_.joinable()) listener_.join();
}

std::string Rendezvous::address() const {
  return ithaca::str(host_, ":", options_.ranks.master_port);
}

WaitHooks Rendezvous::hooks() {
  return {.announced_failure = [this] { return announced_failure(); }, .say = options_.say};
}

c10::intrusive_ptr<c10d::Store> Rendezvous::connect(bool server) const {
  c10d::TCPStoreOptions store;
  store.isServer = server;
  store.port = static_cast<uint16_t>(options_.ranks.master_port);
  store.numWorkers = static_cast<std::size_t>(options_.ranks.world_size);
  store.waitWorkers = false;
  store.timeout = options_.timeout;
  // Left alone, TCPStore would listen on all interfaces.
  if (server)
    store.masterListenFd = options_.ranks.listen_fd >= 0 ? options_.ranks.listen_fd
                                                         : listen_on(host_, options_.ranks.master_port);
  return c10::make_intrusive<c10d::PrefixStore>(ithaca::str("ithaca/", options_.ranks.restart_count),
                                                c10::make_intrusive<c10d::TCPStore>(host_, store));
}

void Rendezvous::serve() {
  try {
    store_ = connect(/*server=*/true);
  } catch (const CommunicationError&) {
    throw;
  } catch (const std::exception& error) {
    throw CommunicationError(
        ithaca::str("rank 0 cannot serve the rendezvous at ", address(), ": ", first_line(error)));
  }
}

void Rendezvous::join() {
  const Clock::time_point deadline = Clock::now() + options_.timeout;
  const std::string server = options_.ranks.agent_store ? "the launcher's agent" : "rank 0";
  std::string cause;
  const auto listens = [&] { return answers(host_, options_.ranks.master_port, 1s, cause); };
  const auto what = [&] { return ithaca::str(server, " to listen on ", address(), " (", cause, ")"); };
  const auto fail = [&] {
    throw CommunicationError(ithaca::str("found no rendezvous at ", address(), " within ",
                                         options_.timeout.count(), " ms: ", cause));
  };
  if (!wait_aloud(listens, options_.timeout, {.announced_failure = {}, .say = options_.say}, what)) fail();
  try {
    const WaitingAloud aloud(ithaca::str(server, ", which listens on ", address(), ", to answer there"),
                             until(deadline), hooks());
    store_ = connect(/*server=*/false);
  } catch (const std::exception& error) {
    cause = first_line(error);
    fail();
  }
}

bool Rendezvous::all_others(const std::string& prefix, const std::string& other_prefix) {
  for (int rank = 0; rank < options_.ranks.world_size; ++rank) {
    if (rank == options_.ranks.rank || store_->check({ithaca::str(prefix, rank)})) continue;
    if (other_prefix.empty() || !store_->check({ithaca::str(other_prefix, rank)})) return false;
  }
  return true;
}

std::vector<int> Rendezvous::missing(const std::string& prefix) {
  std::vector<int> ranks;
  for (int rank = 0; rank < options_.ranks.world_size; ++rank)
    if (!store_->check({ithaca::str(prefix, rank)})) ranks.push_back(rank);
  return ranks;
}

void Rendezvous::meet() {
  const int size = options_.ranks.world_size;
  bool all_here = false;
  std::string late;
  try {
    store_->set(ithaca::str("here/", options_.ranks.rank), Bytes{1});
    int next = 0;  // those before it are here
    all_here = wait_aloud(
        [&] {
          while (next < size && store_->check({ithaca::str("here/", next)})) ++next;
          return next == size;
        },
        options_.timeout, hooks(),
        [&] {
          const std::vector<int> ranks = missing("here/");
          return ithaca::str(ranks.size() == 1 ? "rank " : "ranks ", rank_list(ranks), " of ", size, " at ",
                             address());
        });
    if (!all_here) late = rank_list(missing("here/"));
  } catch (const CommunicationError&) {
    throw;
  } catch (const std::exception& error) {
    throw CommunicationError(ithaca::str("lost the rendezvous at ", address(), ": ", first_line(error)));
  }
  if (!all_here)
    throw CommunicationError(ithaca::str("of ", size, " ranks these did not come to ", address(), " within ",
                                         options_.timeout.count(), " ms: ", late));
}

void Rendezvous::announce_failure(const std::string& summary) {
  try {
    store_->compareSet("abort", Bytes{}, to_bytes(ithaca::str("rank ", options_.ranks.rank, ": ", summary)));
    if (!serves_) return;
    const Clock::time_point deadline = Clock::now() + kUntilHeard;
    while (!all_others("heard/", "left/") && Clock::now() < deadline) std::this_thread::sleep_for(10ms);
  } catch (const std::exception&) {
    // The store went down with its rank: nobody is left to be told this way, closed connections tell the
    // others.
  }
}

std::optional<std::string> Rendezvous::announced_failure() {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return failure_;
  }
  try {
    if (!store_->check({"abort"})) return std::nullopt;
    const Bytes summary = store_->get("abort");
    const std::lock_guard lock(mutex_);
    failure_ = std::string(summary.begin(), summary.end());
    return failure_;
  } catch (const std::exception&) {
    return std::nullopt;  // the store's rank is gone
  }
}

// Beside the main thread, which may wait for a rank that has failed: what it announced is known before its
// connections, and the store, go down.
void Rendezvous::listen_for_failure() {
  try {
    const c10::intrusive_ptr<c10d::Store> store = connect(/*server=*/false);
    while (!over_) {
      if (!store->check({"abort"})) {
        std::this_thread::sleep_for(kListenEvery);
        continue;
      }
      const Bytes summary = store->get("abort");
      {
        const std::lock_guard lock(mutex_);
        failure_ = std::string(summary.begin(), summary.end());
      }
      store->set(ithaca::str("heard/", options_.ranks.rank), Bytes{1});
      return;
    }
  } catch (const std::exception&) {
    return;  // the store's rank is gone
  }
}

void Rendezvous::leave() {
  store_->set(ithaca::str("left/", options_.ranks.rank), Bytes{1});
  if (!serves_) return;
  try {
    wait_aloud([&] { return all_others("left/"); },
               std::min<std::chrono::milliseconds>(options_.timeout, 10s), hooks(),
               [] { return std::string("the others to leave"); });
  } catch (const CommunicationError&) {
    return;  // all work is done; the one that failed has said so
  }
}

}  // namespace ithaca
