// The grid of ranks. Axes from fast to slow: tensor, ulysses, ring, data, pipeline:
//   rank = t + T * (u + U * (r + R * (d + D * p)))
// (ring_inner: ring is faster than ulysses, rank = t + T * (r + R * (u + U * ...))), so sequence groups (ring x
// ulysses) are consecutive ranks when T is 1. Groups are created in one fixed
// order, every rank the same. Names that mean the same ranks (sequence and ulysses where ring is 1) share one
// Communicator, and so one traffic counter.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ithaca/comm/communicator.h"

namespace ithaca {

enum class Axis { kTensor, kUlysses, kRing, kData, kPipeline };

struct MeshDegrees {
  int tensor = 1, ulysses = 1, ring = 1, data = 1, pipeline = 1;
  bool ring_inner = false;  // adjacent ranks form a ring, not a Ulysses group
  int world() const { return tensor * ulysses * ring * data * pipeline; }
  int sequence() const { return ulysses * ring; }
};

class DeviceMesh {
 public:
  // Collective over `world`. UserError if the product of the degrees is not world.size() (all values in the
  // message). `world` must outlive the mesh.
  DeviceMesh(Communicator& world, const MeshDegrees& degrees);

  const MeshDegrees& degrees() const { return degrees_; }
  int coordinate(Axis axis) const;

  Communicator& world() { return world_; }
  Communicator& group(Axis axis);  // the ranks that differ from this one in this axis only
  Communicator& sequence();        // ring x ulysses: holds the parts of one sequence
  Communicator& sequence_data();   // data x ring x ulysses: gradients are summed over it

  // Bytes sent by this rank over all groups of the mesh.
  int64_t bytes_sent() const;

 private:
  void create(const std::string& name, const std::vector<Axis>& axes);

  Communicator& world_;
  MeshDegrees degrees_;
  std::vector<std::unique_ptr<Communicator>> owned_;
  std::map<std::string, Communicator*> groups_;                     // by name; of owned_, or the world itself
  std::map<std::vector<std::vector<int>>, Communicator*> created_;  // by partition of the world
};

}  // namespace ithaca
