#include "ithaca/comm/device_mesh.h"

#include <array>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr int kAxes = 5;
using Coordinates = std::array<int, kAxes>;  // in the order of Axis
constexpr std::array<const char*, kAxes> kAxisNames = {"tensor", "ulysses", "ring", "data", "pipeline"};

Coordinates degrees_of(const MeshDegrees& degrees) {
  return {degrees.tensor, degrees.ulysses, degrees.ring, degrees.data, degrees.pipeline};
}

Coordinates coordinates_of(int rank, const MeshDegrees& mesh) {
  std::array<Axis, kAxes> fast_to_slow = {Axis::kTensor, Axis::kUlysses, Axis::kRing, Axis::kData,
                                          Axis::kPipeline};
  if (mesh.ring_inner) std::swap(fast_to_slow[1], fast_to_slow[2]);
  const Coordinates degrees = degrees_of(mesh);
  Coordinates at{};
  for (const Axis axis : fast_to_slow) {
    const auto i = static_cast<std::size_t>(axis);
    at[i] = rank % degrees[i];
    rank /= degrees[i];
  }
  return at;
}

// All groups along `axes`: the ranks that agree in every other axis, lowest first.
std::vector<std::vector<int>> groups_along(const std::vector<Axis>& axes, const MeshDegrees& degrees,
                                           int world_size) {
  std::map<Coordinates, std::vector<int>> groups;
  for (int rank = 0; rank < world_size; ++rank) {
    Coordinates key = coordinates_of(rank, degrees);
    for (const Axis axis : axes) key[static_cast<std::size_t>(axis)] = 0;
    groups[key].push_back(rank);
  }
  std::vector<std::vector<int>> list;
  for (auto& [key, ranks] : groups) list.push_back(std::move(ranks));
  return list;
}

}  // namespace

DeviceMesh::DeviceMesh(Communicator& world, const MeshDegrees& degrees) : world_(world), degrees_(degrees) {
  const Coordinates sizes = degrees_of(degrees);
  std::string product;
  bool positive = true;
  for (int axis = 0; axis < kAxes; ++axis) {
    product += str(axis ? " x " : "", kAxisNames[axis], " ", sizes[axis]);
    positive = positive && sizes[axis] >= 1;
  }
  if (!positive) throw UserError("device mesh: every degree must be at least 1, but they are " + product);
  if (degrees.world() != world.size()) {
    throw UserError(str("device mesh: ", product, " = ", degrees.world(), " ranks, but the world has ",
                        world.size(), ". Start that many ranks, or change a degree."));
  }
  create("tensor", {Axis::kTensor});
  create("ulysses", {Axis::kUlysses});
  create("ring", {Axis::kRing});
  create("data", {Axis::kData});
  create("pipeline", {Axis::kPipeline});
  create("sequence", {Axis::kUlysses, Axis::kRing});
  create("sequence_data", {Axis::kUlysses, Axis::kRing, Axis::kData});
}

void DeviceMesh::create(const std::string& name, const std::vector<Axis>& axes) {
  const std::vector<std::vector<int>> all = groups_along(axes, degrees_, world_.size());
  // The same partition of the world again (an axis of degree 1 was added): one set of connections serves both
  // names.
  const auto known = created_.find(all);
  if (known != created_.end()) {
    groups_[name] = known->second;
    return;
  }
  Communicator*& own = created_[all];
  if (all.size() == 1) {
    own = &world_;
  } else {
    for (const std::vector<int>& ranks : all) {
      std::unique_ptr<Communicator> group = world_.new_group(ranks, name);
      if (!group) continue;
      own = group.get();
      owned_.push_back(std::move(group));
    }
  }
  groups_[name] = own;
}

int DeviceMesh::coordinate(Axis axis) const {
  return coordinates_of(world_.rank(), degrees_)[static_cast<std::size_t>(axis)];
}

Communicator& DeviceMesh::group(Axis axis) {
  return *groups_.at(kAxisNames[static_cast<std::size_t>(axis)]);
}
Communicator& DeviceMesh::sequence() {
  return *groups_.at("sequence");
}
Communicator& DeviceMesh::sequence_data() {
  return *groups_.at("sequence_data");
}

int64_t DeviceMesh::bytes_sent() const {
  int64_t bytes = world_.traffic().total_bytes();
  for (const std::unique_ptr<Communicator>& group : owned_) bytes += group->traffic().total_bytes();
  return bytes;
}

}  // namespace ithaca
