// Messages over c10d's Gloo: sockets, from any machine to any other.
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "ithaca/comm/message_transport.h"

namespace ithaca {

// Connects `rank` to the other size - 1 ranks that meet at `store`; listens on the interface of `address`
// only. An exception when one does not come within the timeout, which also limits every wait.
std::unique_ptr<MessageTransport> gloo_transport(c10::intrusive_ptr<c10d::Store> store,
                                                 const std::string& address,
                                                 std::chrono::milliseconds timeout, int rank, int size);

}  // namespace ithaca
