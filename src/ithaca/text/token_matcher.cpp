#include "ithaca/text/token_matcher.h"

#include <algorithm>
#include <numeric>

namespace ithaca {
namespace {

// The byte `depth` from the end.
unsigned char reversed_byte(const std::string& text, std::size_t depth) {
  return static_cast<unsigned char>(text[text.size() - 1 - depth]);
}

}  // namespace

// Aho and Corasick's automaton of the reversed tokens reads the text from its end: where it is in a state whose
// longest token is t, t is the longest token that starts there. Read forwards, it would have to go back to the
// end of each match, and the time would be the product of text and token.
TokenMatcher::TokenMatcher(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) lengths_.push_back(static_cast<std::uint32_t>(text.size()));
  build_trie(texts);
  link_fallbacks();
}

void TokenMatcher::build_trie(const std::vector<std::string>& texts) {
  std::vector<std::uint32_t> order(texts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::lexicographical_compare(
        texts[a].rbegin(), texts[a].rend(), texts[b].rbegin(), texts[b].rend(),
        [](char x, char y) { return static_cast<unsigned char>(x) < static_cast<unsigned char>(y); });
  });
  struct Range {
    std::size_t begin, end;  // of `order`: the texts that share the node's path
  };
  nodes_.emplace_back();
  std::vector<Range> level{{0, order.size()}};
  std::uint32_t first = 0;  // the node of level[0]
  for (std::size_t depth = 0; !level.empty(); ++depth) {
    std::vector<Range> next;
    const auto next_first = static_cast<std::uint32_t>(nodes_.size());
    for (std::size_t i = 0; i < level.size(); ++i) {
      auto [begin, end] = level[i];
      const auto node = first + static_cast<std::uint32_t>(i);
      if (begin < end && texts[order[begin]].size() == depth && depth > 0)
        nodes_[node].token = static_cast<int32_t>(order[begin]);
      while (begin < end && texts[order[begin]].size() == depth) ++begin;
      nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size());
      for (std::size_t stop; begin < end; begin = stop) {
        const unsigned char byte = reversed_byte(texts[order[begin]], depth);
        for (stop = begin + 1; stop < end && reversed_byte(texts[order[stop]], depth) == byte;) ++stop;
        nodes_.emplace_back().byte = byte;
        ++nodes_[node].children;
        next.push_back({begin, stop});
      }
    }
    first = next_first;
    level = std::move(next);
  }
}

void TokenMatcher::link_fallbacks() {
  for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
    for (std::uint32_t i = 0; i < nodes_[node].children; ++i) {
      Node& next = nodes_[nodes_[node].first_child + i];
      if (node > 0) {
        std::uint32_t from = nodes_[node].fallback;
        while (from > 0 && child(from, next.byte) == 0) from = nodes_[from].fallback;
        next.fallback = child(from, next.byte);
      }
      if (next.token < 0) next.token = nodes_[next.fallback].token;
    }
  }
}

std::uint32_t TokenMatcher::child(std::uint32_t node, unsigned char byte) const {
  const auto begin = nodes_.begin() + nodes_[node].first_child;
  const auto end = begin + nodes_[node].children;
  const auto found = std::lower_bound(begin, end, byte,
                                      [](const Node& entry, unsigned char key) { return entry.byte < key; });
  return found != end && found->byte == byte ? static_cast<std::uint32_t>(found - nodes_.begin()) : 0;
}

std::vector<TokenMatcher::Match> TokenMatcher::find(std::string_view text, std::size_t* steps) const {
  std::vector<Match> starts;  // the longest token at each place that has one, from the text's end
  std::uint32_t root_children[256] = {};
  for (std::uint32_t i = 0; i < nodes_[0].children; ++i)
    root_children[nodes_[nodes_[0].first_child + i].byte] = nodes_[0].first_child + i;
  std::size_t moves = 0;
  std::uint32_t node = 0;
  for (std::size_t at = text.size(); at-- > 0;) {
    const auto byte = static_cast<unsigned char>(text[at]);
    std::uint32_t next = 0;
    for (; node > 0; node = nodes_[node].fallback, ++moves)
      if ((next = child(node, byte)) != 0) break;
    node = node > 0 ? next : root_children[byte];
    ++moves;
    const int32_t token = nodes_[node].token;
    if (token >= 0) starts.push_back({{at, at + lengths_[token]}, token});
  }
  if (steps) *steps = moves;
  std::vector<Match> found;
  std::size_t end = 0;
  for (auto start = starts.rbegin(); start != starts.rend(); ++start) {
    if (start->span.begin < end) continue;
    found.push_back(*start);
    end = start->span.end;
  }
  return found;
}

}  // namespace ithaca
