#include "ithaca/text/encoder.h"

namespace ithaca {
namespace {

constexpr std::size_t kCachedBytes = 48;  // longer words hardly come twice
constexpr std::size_t kCacheEntries = 1 << 18;
constexpr std::size_t kGrowth = 16, kFreeBytes = std::size_t{1} << 20, kLargeText = std::size_t{64} << 20;

}  // namespace

bool Encoder::Cache::find(std::string_view word, std::vector<int32_t>& out) const {
  const auto found = spans_.find(word);
  if (found == spans_.end()) return false;
  out.insert(out.end(), pool_.begin() + static_cast<std::ptrdiff_t>(found->second.begin),
             pool_.begin() + static_cast<std::ptrdiff_t>(found->second.end));
  return true;
}

void Encoder::Cache::insert(std::string_view word, const int32_t* ids, std::size_t count) {
  if (spans_.size() >= kCacheEntries) return;
  const Span span{pool_.size(), pool_.size() + count};
  pool_.insert(pool_.end(), ids, ids + count);
  spans_.emplace(words_.emplace_back(word), span);
}

void Encoder::Cache::make_room() {
  if (spans_.size() < kCacheEntries) return;
  spans_.clear();
  words_.clear();
  pool_.clear();
}

Encoder::Encoder(const EncodingRules& rules) : rules_(rules), regex_(kFreeBytes) {}

void Encoder::encode(std::string_view text, std::vector<int32_t>& ids) {
  regex_.set_limit(kGrowth * text.size() + kFreeBytes);
  words_.make_room();
  segments_.make_room();
  for (const TextPart& part : rules_.added.split_raw(text)) {
    regex_.tick();
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    std::string plain(text.substr(part.span.begin, part.span.end - part.span.begin));
    if (rules_.normalizer) plain = rules_.normalizer->run(std::move(plain), regex_);
    if (!rules_.added.normalizes_any()) {
      encode_plain(std::move(plain), part.span.begin == 0, ids);
      continue;
    }
    for (const TextPart& inner : rules_.added.split_normalized(plain)) {
      if (inner.id >= 0)
        ids.push_back(inner.id);
      else
        encode_plain(plain.substr(inner.span.begin, inner.span.end - inner.span.begin),
                     part.span.begin == 0 && inner.span.begin == 0, ids);
    }
  }
}

void Encoder::encode_plain(std::string text, bool starts_input, std::vector<int32_t>& ids) {
  const Words words = rules_.pre_tokenizer.run(std::move(text), starts_input, regex_);
  const std::string_view all = words.text;
  for (const Span& span : words.spans) {
    encode_word(all.substr(span.begin, span.end - span.begin), ids);
    regex_.tick();
  }
}

void Encoder::encode_word(std::string_view word, std::vector<int32_t>& ids) {
  const bool cached = word.size() <= kCachedBytes;
  if (cached && words_.find(word, ids)) return;
  const std::size_t before = ids.size();
  if (rules_.pre_tokenizer.maps_bytes()) {
    mapped_.clear();
    rules_.alphabet.append_mapped(mapped_, word);
    encode_mapped(mapped_, ids);
  } else {
    encode_mapped(word, ids);
  }
  if (cached) words_.insert(word, ids.data() + before, ids.size() - before);
}

void Encoder::encode_mapped(std::string_view word, std::vector<int32_t>& ids) {
  if (const auto whole = rules_.model.whole_word(word)) {
    ids.push_back(*whole);
    return;
  }
  if (word.size() <= kCachedBytes) return rules_.model.encode(word, pairs_, ids);
  for (std::size_t begin = 0; begin < word.size();) {
    const std::size_t end = rules_.model.next_cut(word, begin);
    encode_segment(word.substr(begin, end - begin), ids);
    begin = end;
    regex_.tick();
  }
}

void Encoder::encode_segment(std::string_view segment, std::vector<int32_t>& ids) {
  const bool cached = segment.size() <= kCachedBytes;
  if (cached && segments_.find(segment, ids)) return;
  const std::size_t before = ids.size();
  rules_.model.encode(segment, pairs_, ids);
  if (cached) segments_.insert(segment, ids.data() + before, ids.size() - before);
}

void EncoderPool::encode(std::string_view text, std::vector<int32_t>& ids,
                         const std::function<void()>& poll) {
  std::unique_ptr<Encoder> encoder;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      encoder = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!encoder) encoder = std::make_unique<Encoder>(rules_);
  encoder->set_poll(&poll);
  encoder->encode(text, ids);  // one that threw is given up, and one whose buffers have become large
  encoder->set_poll(nullptr);
  if (text.size() > kLargeText) return;
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(encoder));
}

}  // namespace ithaca
