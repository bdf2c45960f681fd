// Byte-pair encoding as the `tokenizers` library runs it: merge the pair of lowest rank, leftmost first,
// until none is left. A heap over a linked list keeps a word of n characters at O(n log n): one Han run, or
// one SentencePiece document, is a single word.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ithaca/text/flat_map.h"
#include "ithaca/text/json_node.h"

namespace ithaca {

class BytePairModel {
 public:
  // The "model" object of tokenizer.json.
  explicit BytePairModel(const JsonNode& model);

  // Buffers of one thread.
  struct Scratch {
    struct Symbol {
      int32_t id;  // -1: merged into its left neighbour
      int32_t previous, next;
    };
    struct Candidate {
      uint32_t rank;
      int32_t position;
      int32_t merged;
      bool operator<(const Candidate& other) const {  // the heap's top is the lowest rank, then the leftmost
        return rank != other.rank ? rank > other.rank : position > other.position;
      }
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Appends the ids of one word.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  // The whole word as one token, where the model wants that tried before merging (ignore_merges).
  std::optional<int32_t> whole_word(std::string_view word) const;
  // A position in (from, word.size()], behind which the rest can be encoded alone: no merge makes a token
  // that spans it. Exact, because a token is made by merges only, and no result of a merge holds the two
  // characters that meet there side by side.
  std::size_t next_cut(std::string_view word, std::size_t from) const;

  std::optional<int32_t> token_to_id(std::string_view token) const;
  const std::string* id_to_token(int32_t id) const;  // null if there is none
  std::size_t vocab_size() const { return ids_.size(); }
  int32_t max_id() const { return max_id_; }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  int32_t unk_id() const;
  void read_vocab(const JsonNode& vocab);
  void read_merges(const JsonNode& merges);
  void read_byte_tokens();
  void add_merge(std::string_view left, std::string_view right, uint32_t rank, const JsonNode& where);
  void note_neighbours(std::string_view token);
  int32_t initial_id(std::string_view word, std::size_t begin, std::size_t end, char32_t c) const;
  void split_into_symbols(std::string_view word, Scratch& scratch) const;
  void push_candidate(int32_t position, Scratch& scratch) const;
  void merge_symbols(Scratch& scratch) const;

  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
  // By id. Not a vector: a stranger's file may claim one large id.
  std::unordered_map<int32_t, const std::string*> tokens_;
  int32_t max_id_ = -1;
  std::vector<int32_t> bmp_ids_;   // of one-character tokens below U+10000; -1: none
  std::vector<int32_t> byte_ids_;  // of <0x00>..<0xFF>; -1: none
  FlatMap merges_;                 // left id << 32 | right id -> rank << 32 | merged id
  FlatMap neighbours_;             // left character << 32 | right character, of the results of merges
  std::string prefix_, suffix_;    // continuing_subword_prefix, end_of_word_suffix
  std::optional<std::string> unk_token_;
  std::optional<int32_t>
      unk_id_;  // nothing if unk_token_ is not in the vocabulary: then a text may not need it
  bool fuse_unk_ = false, byte_fallback_ = false, ignore_merges_ = false, can_cut_ = false;
};

}  // namespace ithaca
