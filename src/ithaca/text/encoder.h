// One call of Tokenizer::encode: its buffers, and the words it has met. Nothing is shared between calls, so
// calls may run on several threads.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ithaca/text/added_tokens.h"
#include "ithaca/text/bpe.h"
#include "ithaca/text/byte_level.h"
#include "ithaca/text/normalizer.h"
#include "ithaca/text/pre_tokenizer.h"

namespace ithaca {

// The rules of one tokenizer.json; normalizer may be null.
struct EncodingRules {
  const AddedTokens& added;
  const Normalizer* normalizer;
  const PreTokenizer& pre_tokenizer;
  const BytePairModel& model;
  const ByteLevelAlphabet& alphabet;
};

class Encoder {
 public:
  // `text_bytes` bounds what the rules may make of the text.
  Encoder(const EncodingRules& rules, std::size_t text_bytes);
  // Appends the ids of `text` (valid UTF-8), without the post-processor's.
  void encode(std::string_view text, std::vector<int32_t>& ids);
  // See RegexScratch; for the calls that follow.
  void set_poll(const std::function<void()>* poll) { regex_.set_poll(poll); }

 private:
  // Ids of short strings, kept in one pool.
  class Cache {
   public:
    // Appends the ids to `out` if the word is known.
    bool find(std::string_view word, std::vector<int32_t>& out) const;
    void insert(std::string_view word, const int32_t* ids, std::size_t count);

   private:
    std::unordered_map<std::string_view, Span> spans_;
    std::deque<std::string> words_;  // the keys' texts
    std::vector<int32_t> pool_;
  };

  void encode_plain(std::string text, bool starts_input, std::vector<int32_t>& ids);
  void encode_word(std::string_view word, std::vector<int32_t>& ids);
  void encode_mapped(std::string_view word, std::vector<int32_t>& ids);
  void encode_segment(std::string_view segment, std::vector<int32_t>& ids);

  EncodingRules rules_;
  RegexScratch regex_;
  BytePairModel::Scratch pairs_;
  Cache words_, segments_;
  std::string mapped_;
};

}  // namespace ithaca
