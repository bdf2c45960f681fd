// Problems of a file from elsewhere, of which there may be as many as it has entries: the first are told, the rest are
// counted, so that a message stays small.
#pragma once
#include <cstddef>
#include <string>
#include <utility>

#include "ithaca/base/error.h"

namespace ithaca {

class ProblemList {
 public:
  void add(std::string problem) {
    if (++count_ <= kTold) told_.add(std::move(problem));
  }
  bool empty() const { return count_ == 0; }
  // Throws one UserError with the problems below `heading`; does nothing when there are none.
  void throw_if_any(const std::string& heading) {
    if (count_ > kTold) told_.add(str("and ", count_ - kTold, " more"));
    told_.throw_if_any(heading);
  }

 private:
  static constexpr std::size_t kTold = 20;
  std::size_t count_ = 0;
  Problems told_;
};

}  // namespace ithaca
