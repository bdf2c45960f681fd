// Sequence groups in DeepSpeed's words (deepspeed.utils.groups): values, no globals.
// Sequence groups are consecutive ranks i*sp .. (i+1)*sp - 1; a sequence-data group holds sp * dp ranks:
// gradients are summed over it. Inside a sequence group the ranks form a grid of ring x ulysses (layout.h):
// with ulysses_degree = sp, the default, all of them are one Ulysses group.
#pragma once
#include <memory>

#include "ithaca/comm/communicator.h"
#include "ithaca/parallel/sequence/layout.h"

namespace ithaca {

class SequenceGroups {
 public:
  // Collective over world. UserError if world.size() is not divisible by sequence_parallel_size, or that by
  // ulysses_degree (0: sequence_parallel_size).
  SequenceGroups(Communicator& world, int sequence_parallel_size, int ulysses_degree = 0,
                 bool ring_inner = false);

  Communicator& sequence_parallel_group() { return *sequence_; }
  Communicator& sequence_data_parallel_group() { return world_; }
  Communicator& data_parallel_group() { return *data_; }
  Communicator& ulysses_group() { return *ulysses_; }
  Communicator& ring_group() { return *ring_; }
  int sequence_parallel_rank() { return sequence_->rank(); }
  int sequence_parallel_world_size() { return sequence_->size(); }
  int data_parallel_rank() { return data_->rank(); }
  int data_parallel_world_size() { return data_->size(); }
  int ulysses_rank() { return ulysses_->rank(); }
  int ulysses_world_size() { return ulysses_->size(); }
  int ring_rank() { return ring_->rank(); }
  int ring_world_size() { return ring_->size(); }
  const SequenceGrid& grid() const { return grid_; }

 private:
  Communicator& world_;
  SequenceGrid grid_;
  std::vector<std::unique_ptr<Communicator>> owned_;
  Communicator *sequence_, *data_, *ulysses_, *ring_;  // of owned_, or the world
};

}  // namespace ithaca
