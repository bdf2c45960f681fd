// Messages between processes of one machine, without a socket: the sender writes where its bytes lie into a
// small shared segment, the receiver copies them straight out of the sender's memory (process_vm_readv, Linux
// "cross memory attach"), once. About as fast as a memcpy; the copy is made by the receiver while it waits
// (any wait moves all messages that can move). A peer that dies is noticed at once (pidfd).
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "ithaca/comm/message_transport.h"
#include "ithaca/comm/wait.h"

namespace ithaca {

struct LocalTransportResult {
  std::unique_ptr<MessageTransport> transport;  // or null, on every rank alike
  std::string reason;                           // why it is null
};

// All ranks that meet at `store` call it. Null when they do not share one machine and one process namespace,
// or the kernel does not let them read each other's memory: this is tried, not guessed. CommunicationError when
// a rank does not come within the timeout, which also limits every wait, or announces a failure.
LocalTransportResult local_transport(const c10::intrusive_ptr<c10d::Store>& store,
                                     std::chrono::milliseconds timeout, int rank, int size,
                                     const WaitHooks& hooks = {});

}  // namespace ithaca
