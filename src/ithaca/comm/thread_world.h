// Ranks as threads of one process: tests, and several ranks on one GPU.
//
// A call completes once every rank has posted it, whichever rank waits first: the ranks that wait share the
// work. A mismatch (verb, dtype, sizes, counts) is an error on the rank that posted last, and a rank that
// returned without making the call is named at once. CUDA tensors: all ranks use the device's default stream,
// so that posting in host order is ordering enough.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "ithaca/comm/communicator.h"

namespace ithaca {

// Runs fn(world) on `size` threads, each a rank. If a rank throws, every wait of the others ends with
// CommunicationError; all threads are joined; then the first failing rank's exception is thrown again with
// "rank R: " before its message (its type kept for the kinds of base/error.h). Backward passes run in the
// rank's own thread (libtorch's shared engine thread would deadlock two ranks of one GPU).
void run_thread_ranks(int size, const std::function<void(Communicator& world)>& fn,
                      std::chrono::milliseconds timeout = std::chrono::seconds(60));

// A world of this rank alone; `rank` is what ranks() reports.
std::unique_ptr<Communicator> single_rank_world(int rank = 0, const std::string& name = "world");

}  // namespace ithaca
