// Sequence groups in DeepSpeed's words (deepspeed.utils.groups): values, no globals.
// Sequence groups are consecutive ranks i*sp .. (i+1)*sp - 1; a sequence-data group holds sp * dp ranks:
// gradients are summed over it.
#pragma once
#include <memory>

#include "ithaca/comm/communicator.h"

namespace ithaca {

class SequenceGroups {
 public:
  // Collective over world. UserError if world.size() is not divisible by sequence_parallel_size.
  SequenceGroups(Communicator& world, int sequence_parallel_size);

  Communicator& sequence_parallel_group() { return sequence_ ? *sequence_ : world_; }
  Communicator& sequence_data_parallel_group() { return world_; }
  Communicator& data_parallel_group() { return data_ ? *data_ : world_; }
  int sequence_parallel_rank() { return sequence_parallel_group().rank(); }
  int sequence_parallel_world_size() { return sequence_parallel_group().size(); }
  int data_parallel_rank() { return data_parallel_group().rank(); }
  int data_parallel_world_size() { return data_parallel_group().size(); }

 private:
  Communicator& world_;
  std::unique_ptr<Communicator> sequence_, data_;  // null: the whole world
};

}  // namespace ithaca
