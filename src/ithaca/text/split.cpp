#include "ithaca/text/split.h"

#include <algorithm>

namespace ithaca {

void cover_with_segments(const std::vector<Span>& matches, std::size_t length, bool invert,
                         std::vector<Segment>& segments) {
  segments.clear();
  std::size_t end = 0;
  for (const Span& match : matches) {
    if (match.begin > end) segments.push_back({{end, match.begin}, invert});
    segments.push_back({match, !invert});
    end = match.end;
  }
  if (end < length) segments.push_back({{end, length}, invert});
}

void join_segments(const std::vector<Segment>& segments, Behavior behavior, std::vector<Span>& pieces) {
  const std::size_t first = pieces.size();
  bool previous = false;  // was the segment before a match?
  auto forward = [&](auto joins) {
    for (const auto& [span, match] : segments) {
      if (joins(match) && pieces.size() > first)
        pieces.back().end = span.end;
      else
        pieces.push_back(span);
      previous = match;
    }
  };
  switch (behavior) {
    case Behavior::kRemoved:
      for (const auto& [span, match] : segments)
        if (!match) pieces.push_back(span);
      break;
    case Behavior::kIsolated:
      forward([](bool) { return false; });
      break;
    case Behavior::kContiguous:
      forward([&](bool match) { return match == previous; });
      break;
    case Behavior::kMergedWithPrevious:
      forward([&](bool match) { return match && !previous; });
      break;
    case Behavior::kMergedWithNext:
      for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
        if (segment->match && !previous && pieces.size() > first)
          pieces.back().begin = segment->span.begin;
        else
          pieces.push_back(segment->span);
        previous = segment->match;
      }
      std::reverse(pieces.begin() + static_cast<std::ptrdiff_t>(first), pieces.end());
      break;
  }
  pieces.erase(std::remove_if(pieces.begin() + static_cast<std::ptrdiff_t>(first), pieces.end(),
                              [](const Span& span) { return span.begin == span.end; }),
               pieces.end());
}

}  // namespace ithaca
