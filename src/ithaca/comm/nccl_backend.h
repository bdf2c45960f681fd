// CUDA collectives between processes over c10d NCCL; CPU tensors of the same group go over Gloo.
// nccl_backend.cpp is built with ITHACA_CUDA, else no_nccl_backend.cpp, whose function refuses. NCCL knows no
// tags and may block a sender until its message is received, so send and recv go through host memory and the
// group of the CPU: a ring of GPUs is exact and cannot hang, but slow.
#pragma once
#include <memory>

#include "ithaca/comm/message_backend.h"

namespace ithaca {

// The same group for CUDA tensors as well. One rank a GPU; the current device is this rank's.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<MessageCommunicator> cpu);

}  // namespace ithaca
