#include "ithaca/parallel/sequence/groups.h"

#include "ithaca/base/error.h"

namespace ithaca {

SequenceGroups::SequenceGroups(Communicator& world, int sequence_parallel_size) : world_(world) {
  const int sp = sequence_parallel_size;
  if (sp < 1 || world.size() % sp != 0)
    throw UserError(str("sequence_parallel_size ", sp, " does not divide the world of ", world.size(),
                        " ranks; choose one of its divisors"));
  const int groups = world.size() / sp;
  if (groups > 1) {
    for (int i = 0; i < groups; ++i) {
      std::vector<int> ranks;
      for (int r = 0; r < sp; ++r) ranks.push_back(i * sp + r);
      if (auto group = world.new_group(ranks, str("sequence.", i))) sequence_ = std::move(group);
    }
  }
  if (sp > 1) {
    for (int r = 0; r < sp; ++r) {
      std::vector<int> ranks;
      for (int i = 0; i < groups; ++i) ranks.push_back(i * sp + r);
      if (auto group = world.new_group(ranks, str("data.", r))) data_ = std::move(group);
    }
  }
}

}  // namespace ithaca
