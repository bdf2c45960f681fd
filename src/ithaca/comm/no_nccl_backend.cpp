#include "ithaca/base/error.h"
#include "ithaca/comm/nccl_backend.h"

namespace ithaca {

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<MessageCommunicator> cpu) {
  throw UserError(
      "collectives on CUDA tensors: this build has no NCCL. Configure with the cuda preset, or run on the "
      "CPU.");
}

}  // namespace ithaca
