// What encodes texts, one after another: its buffers, and the words it has met. Of one thread at a time; the
// pool hands them out, so that short documents do not each begin with nothing.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
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
  explicit Encoder(const EncodingRules& rules);
  // Appends the ids of `text` (valid UTF-8), without the post-processor's. UserError if the rules make more of
  // it than 16 times its size and 1 MiB.
  void encode(std::string_view text, std::vector<int32_t>& ids);
  // See RegexScratch; for the calls that follow.
  void set_poll(const std::function<void()>* poll) { regex_.set_poll(poll); }

 private:
  // Ids of short strings, kept in one pool; a full one begins anew.
  class Cache {
   public:
    void make_room();  // before a text: what find() gave stays valid until the next call
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

// Encoders that are not at work. As many come to be as calls run at the same time.
class EncoderPool {
 public:
  explicit EncoderPool(const EncodingRules& rules) : rules_(rules) {}
  // As Encoder::encode; safe from several threads at once. `poll`: see RegexScratch.
  void encode(std::string_view text, std::vector<int32_t>& ids, const std::function<void()>& poll);

 private:
  EncodingRules rules_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Encoder>> idle_;
};

}  // namespace ithaca
