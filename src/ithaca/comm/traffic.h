// Bytes sent per rank, by verb. A collective counts what its algorithm must put on the wire (cost.h has the
// formulas): all_gather the rank's own share to n - 1 others, reduce_scatter everything but the own share,
// all_reduce both, all_to_all what goes to others.
#pragma once
#include <array>
#include <cstdint>

namespace ithaca {

enum class Verb { kBroadcast, kAllReduce, kAllGather, kReduceScatter, kAllToAll, kSend, kCount };

class Traffic {
 public:
  void add(Verb verb, int64_t bytes) {
    bytes_[static_cast<std::size_t>(verb)] += bytes;
    calls_[static_cast<std::size_t>(verb)] += 1;
  }
  int64_t bytes(Verb verb) const { return bytes_[static_cast<std::size_t>(verb)]; }
  int64_t calls(Verb verb) const { return calls_[static_cast<std::size_t>(verb)]; }
  int64_t total_bytes() const {
    int64_t total = 0;
    for (const int64_t bytes : bytes_) total += bytes;
    return total;
  }
  void reset() { *this = Traffic(); }

 private:
  std::array<int64_t, static_cast<std::size_t>(Verb::kCount)> bytes_{};
  std::array<int64_t, static_cast<std::size_t>(Verb::kCount)> calls_{};
};

}  // namespace ithaca
