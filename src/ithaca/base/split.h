// Near-even parts of a number of things: rows of a sequence, heads, elements of a sum.
#pragma once
#include <algorithm>
#include <cstdint>

namespace ithaca {

struct Share {
  int64_t begin = 0, count = 0;
  bool operator==(const Share&) const = default;
};

// Part `part` of n things in `parts`: the first n mod parts of them hold one more. 0 <= part < parts, n >= 0.
constexpr Share even_split(int64_t n, int64_t parts, int64_t part) {
  const int64_t base = n / parts, more = n % parts;
  return {part * base + std::min(part, more), base + (part < more ? 1 : 0)};
}

}  // namespace ithaca
