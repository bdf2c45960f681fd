// Where ranks meet: a TCPStore that rank 0 serves, or torchrun's agent. Knows who is missing, and hears when a
// rank leaves because of a failure.
#pragma once
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "ithaca/comm/process_world.h"
#include "ithaca/comm/wait.h"

namespace ithaca {

class Rendezvous {
 public:
  // Opens the store and waits for all ranks, as ProcessWorld::connect says.
  explicit Rendezvous(const ProcessWorldOptions& options);
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  const c10::intrusive_ptr<c10d::Store>& store() const { return store_; }
  const std::string& host() const { return host_; }
  WaitHooks hooks();
  // Leaves `summary` for the others unless somebody has before. The rank that serves the store stays until they
  // have heard of it, at most 2 s: its end is the store's. Never throws.
  void announce_failure(const std::string& summary);
  // Remembered once heard, so that it outlives the store.
  std::optional<std::string> announced_failure();
  // The orderly end: the rank that serves the store waits for the others to leave it.
  void leave();

 private:
  void serve();
  void join();
  c10::intrusive_ptr<c10d::Store> connect(bool server) const;
  void meet();
  // Whether every rank but this one has set one of the two keys; throws when the store is gone.
  bool all_others(const std::string& prefix, const std::string& other_prefix = "");
  std::vector<int> missing(const std::string& prefix);
  std::string address() const;
  void listen_for_failure();

  const ProcessWorldOptions options_;
  std::string host_;
  bool serves_;  // this process runs the store
  c10::intrusive_ptr<c10d::Store> store_;
  std::mutex mutex_;
  std::optional<std::string> failure_;  // the first that was announced
  std::atomic<bool> over_ = false;
  std::thread listener_;  // has a connection of its own
};

}  // namespace ithaca
