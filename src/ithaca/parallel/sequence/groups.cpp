#include "ithaca/parallel/sequence/groups.h"

#include <functional>
#include <map>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

SequenceGrid grid_of(int world, int sp, int ulysses_degree, bool ring_inner) {
  if (sp < 1 || world % sp != 0)
    throw UserError(str("sequence_parallel_size ", sp, " does not divide the world of ", world,
                        " ranks; choose one of its divisors"));
  const int ulysses = ulysses_degree == 0 ? sp : ulysses_degree;
  if (ulysses < 1 || sp % ulysses != 0)
    throw UserError(str("ulysses_degree ", ulysses, " does not divide sequence_parallel_size ", sp,
                        "; choose one of its divisors"));
  return {ulysses, sp / ulysses, ring_inner};
}

}  // namespace

SequenceGroups::SequenceGroups(Communicator& world, int sequence_parallel_size, int ulysses_degree,
                               bool ring_inner)
    : world_(world), grid_(grid_of(world.size(), sequence_parallel_size, ulysses_degree, ring_inner)) {
  const int sp = sequence_parallel_size;
  // One group for each key, of the ranks that have it, lowest first. Collective; this rank's.
  const auto create = [&](const char* name, const std::function<int(int rank)>& key) -> Communicator* {
    std::map<int, std::vector<int>> groups;
    for (int rank = 0; rank < world.size(); ++rank) groups[key(rank)].push_back(rank);
    if (groups.size() == 1) return &world_;
    Communicator* own = nullptr;
    for (const auto& [value, ranks] : groups) {
      std::unique_ptr<Communicator> group = world.new_group(ranks, str(name, ".", value));
      if (!group) continue;
      own = group.get();
      owned_.push_back(std::move(group));
    }
    return own;
  };
  sequence_ = create("sequence", [&](int rank) { return rank / sp; });
  data_ = create("data", [&](int rank) { return rank % sp; });
  ulysses_ = create("ulysses", [&](int rank) { return rank / sp * sp + grid_.ring_index(rank % sp); });
  ring_ = create("ring", [&](int rank) { return rank / sp * sp + grid_.ulysses_index(rank % sp); });
}

}  // namespace ithaca
