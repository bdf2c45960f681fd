// Ranks as processes: rendezvous over a TCPStore; CPU collectives over each other's memory where all ranks
// share one machine that permits it (local_transport.h), else over Gloo; CUDA collectives over NCCL.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "ithaca/base/rank_environment.h"
#include "ithaca/comm/communicator.h"

namespace ithaca {

struct ProcessWorldOptions {
  RankEnvironment ranks;
  // Of every wait: rendezvous, connecting, collectives.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  bool cuda = false;         // NCCL for CUDA tensors
  bool share_memory = true;  // false: Gloo also between ranks of one machine
  // What this rank waits for, when that takes longer than 5 s, and now and then again: "waiting for rank 3 of 4
  // at host:port, ...". May be empty; called by one thread at a time.
  std::function<void(const std::string&)> say;

  bool one_machine() const { return ranks.local_world_size == ranks.world_size; }
};

class ProcessWorld {
 public:
  // Meets the other ranks. CommunicationError on timeout, naming address and port, and the ranks that did not
  // come.
  static std::unique_ptr<ProcessWorld> connect(const ProcessWorldOptions& options);
  virtual ~ProcessWorld() = default;

  virtual Communicator& world() = 0;
  // What carries CPU messages, and why, in words: for the log.
  virtual std::string transport() const = 0;
  // Tells the other ranks why this one is leaving: sets the abort key in the store, then returns; the caller
  // writes its summary and calls _exit (unwinding through a live process group would wait in its destructor).
  // The first summary stays. The rank that serves the store returns when the others have heard it, after at most
  // 2 s. Never throws.
  virtual void announce_failure(const std::string& summary) = 0;
  // The first summary that was announced, "rank R: ...", or nothing; known also when the store has gone since.
  // Never blocks for long, never throws.
  virtual std::optional<std::string> announced_failure() = 0;
  // The orderly end: a barrier, then the rank that serves the store waits (at most 10 s) until all others
  // have left it. No call follows.
  virtual void finish() = 0;
};

}  // namespace ithaca
