// Ranks as processes: rendezvous over a TCPStore; CPU collectives over each other's memory where all ranks
// share one machine that permits it (local_transport.h), else over Gloo; CUDA collectives over NCCL.
#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "ithaca/comm/communicator.h"

namespace ithaca {

struct ProcessWorldOptions {
  int rank = 0;
  int world_size = 1;
  int local_world_size = 1;  // equal to world_size: everything stays on the loopback interface
  std::string master_addr = "127.0.0.1";
  int master_port = 0;
  int listen_fd = -1;             // rank 0: a socket that is already listening (bound by the parent), or -1
  bool join_agent_store = false;  // the launcher's agent already serves the store (torchrun)
  // Of the launcher: an agent's store outlives a restart, so keys are kept apart by it.
  int restart_count = 0;
  // Of every wait: rendezvous, connecting, collectives.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  bool cuda = false;         // NCCL for CUDA tensors
  bool share_memory = true;  // false: Gloo also between ranks of one machine
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
  // The first summary stays. Never throws.
  virtual void announce_failure(const std::string& summary) = 0;
  // The first summary that was announced, "rank R: ...", or nothing. Never blocks for long, never throws.
  virtual std::optional<std::string> announced_failure() = 0;
  // The orderly end: a barrier, then the rank that serves the store waits (at most 10 s) until all others
  // have left it. No call follows.
  virtual void finish() = 0;
};

}  // namespace ithaca
