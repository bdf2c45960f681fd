// How fast steps were: tokens, operations and seconds of the same steps, so that what happens between steps
// (checkpoints, evaluations) can enter none of them alone.
#pragma once
#include <cstdint>

namespace ithaca {

class Throughput {
 public:
  void add(int64_t tokens, double flops, double seconds) {
    tokens_ += tokens;
    flops_ += flops;
    seconds_ += seconds;
  }
  double tokens_per_second() const { return static_cast<double>(tokens_) / seconds_; }
  double flops_per_second() const { return flops_ / seconds_; }

 private:
  int64_t tokens_ = 0;
  double flops_ = 0, seconds_ = 0;
};

}  // namespace ithaca
