// Ranks as threads of one process: tests, and several ranks on one GPU.
#pragma once
#include <chrono>
#include <functional>

#include "ithaca/comm/communicator.h"

namespace ithaca {

// Runs fn(world) on `size` threads, each a rank. If a rank throws, every wait of the others ends with CommunicationError; all threads are
// joined; then the first failing rank's exception is thrown again with "rank R: " before its message (its type kept for the kinds of
// base/error.h).
void run_thread_ranks(int size, const std::function<void(Communicator& world)>& fn,
                      std::chrono::milliseconds timeout = std::chrono::seconds(60));

}  // namespace ithaca
