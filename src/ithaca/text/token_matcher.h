// Finds the added tokens in a text: at the leftmost place the longest one, then on behind it. The time is that
// of one pass over the text, however many tokens there are and however long.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/text/regex.h"

namespace ithaca {

class TokenMatcher {
 public:
  struct Match {
    Span span;
    int32_t token;  // index into the list the matcher was made from
  };

  // Of equal texts the first counts; an empty one is never found. Memory: some 20 bytes a byte of `texts`.
  explicit TokenMatcher(const std::vector<std::string>& texts);

  // Matches from left to right, none over another. `steps`, if given, counts the automaton's moves.
  std::vector<Match> find(std::string_view text, std::size_t* steps = nullptr) const;
  bool empty() const { return nodes_.size() <= 1; }

 private:
  // A node of a trie of the reversed texts. Its children lie side by side, by ascending byte.
  struct Node {
    std::uint32_t first_child = 0;
    std::uint32_t fallback = 0;  // the node of the longest proper suffix of what was read that the trie has
    int32_t token = -1;          // the longest token that ends here
    std::uint16_t children = 0;
    unsigned char byte = 0;
  };

  void build_trie(const std::vector<std::string>& texts);
  void link_fallbacks();
  std::uint32_t child(std::uint32_t node, unsigned char byte) const;  // 0: none

  std::vector<Node> nodes_;             // 0 is the root; breadth first
  std::vector<std::uint32_t> lengths_;  // of the tokens, in bytes
};

}  // namespace ithaca
