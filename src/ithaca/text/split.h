// Splitting words at matches: the five behaviours of the `tokenizers` library.
#pragma once
#include <string_view>
#include <vector>

#include "ithaca/text/pattern.h"
#include "ithaca/text/pre_tokenizer.h"

namespace ithaca {

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct Segment {
  Span span;
  bool match;
};

// Appends the pieces (none empty) of a text that `segments` covers without gaps.
void join_segments(const std::vector<Segment>& segments, Behavior behavior, std::vector<Span>& pieces);

// Matches and what lies between them, without gaps; `invert` exchanges the two.
void cover_with_segments(const std::vector<Span>& matches, std::size_t length, bool invert,
                         std::vector<Segment>& segments);

// Splits every word at the matches that `find(word, matches)` appends.
template <class Find>
void split_words(Words& words, Behavior behavior, bool invert, Find find) {
  std::vector<Span> pieces, matches;
  std::vector<Segment> segments;
  pieces.reserve(words.spans.size() * 2);
  for (const Span& word : words.spans) {
    matches.clear();
    find(std::string_view(words.text).substr(word.begin, word.end - word.begin), matches);
    cover_with_segments(matches, word.end - word.begin, invert, segments);
    const std::size_t first = pieces.size();
    join_segments(segments, behavior, pieces);
    for (std::size_t i = first; i < pieces.size(); ++i) {
      pieces[i].begin += word.begin;
      pieces[i].end += word.begin;
    }
  }
  words.spans = std::move(pieces);
}

}  // namespace ithaca
