#include "ithaca/text/added_tokens.h"

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::int64_t kMaxTokens = 16'000'000;
constexpr std::size_t kMaxTokenBytes = 4096;  // the search walks at most this far from each place of the text

std::size_t spaces_before(std::string_view text, std::size_t end) {
  while (end > 0) {
    const char32_t last = last_code_point(text, end);
    if (!is_white_space(last)) break;
    end -= last < 0x80 ? 1 : last < 0x800 ? 2 : 3;
  }
  return end;
}

std::size_t spaces_behind(std::string_view text, std::size_t begin) {
  for (std::size_t at = begin; begin < text.size() && is_white_space(next_code_point(text, at));) begin = at;
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(const JsonNode* list, const BytePairModel& model, const Normalizer* normalizer) {
  raw_.ends.assign(1, -1);
  normalized_.ends.assign(1, -1);
  if (!list) return;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const JsonNode node = list->item(i);
    AddedToken token;
    token.content = node.text("content");
    token.id = static_cast<int32_t>(node.at("id").integer(0, kMaxTokens));
    token.single_word = node.flag_or("single_word", false);
    token.lstrip = node.flag_or("lstrip", false);
    token.rstrip = node.flag_or("rstrip", false);
    token.special = node.flag_or("special", false);
    token.normalized = node.flag_or("normalized", !token.special);
    if (token.content.size() > kMaxTokenBytes)
      node.at("content").fail(str("at most ", kMaxTokenBytes, " bytes"));
    if (!token.content.empty()) add_token(std::move(token), model, node);
  }
  // Of two tokens that normalise to one text the special one wins, then the first.
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const auto& a, const auto& b) { return a.special > b.special; });
  for (std::size_t i = 0; i < tokens_.size(); ++i) by_content_[tokens_[i].content] = i;
  for (const AddedToken& token : tokens_) {
    if (!token.normalized) {
      raw_.add(token, token.content);
    } else if (normalizer) {
      RegexScratch scratch(std::size_t{1} << 20);
      normalized_.add(token, normalizer->run(token.content, scratch));
    } else {
      normalized_.add(token, token.content);
    }
  }
}

void AddedTokens::add_token(AddedToken token, const BytePairModel& model, const JsonNode& where) {
  const auto known = model.token_to_id(token.content);
  if (known && *known != token.id)
    throw UserError(str(where.where(), ": \"", token.content, "\" has the id ", token.id, " here and ",
                        *known, " in model.vocab; give both the same id"));
  const auto vocab_size = static_cast<int32_t>(model.vocab_size());
  const int32_t next = max_id_ < vocab_size ? vocab_size : max_id_ + 1;
  if (!known && token.id != next && !by_content_.contains(token.content))
    throw UserError(str(where.where(), ": \"", token.content, "\" has the id ", token.id, "; expected ", next,
                        ", because a token that is not in model.vocab gets the next free id (the tokenizers "
                        "library would give it that one, "
                        "whatever stands here)"));
  const auto [entry, is_new] = by_content_.emplace(token.content, tokens_.size());
  by_id_[token.id] = token.content;
  max_id_ = std::max(max_id_, token.id);
  if (is_new)
    tokens_.push_back(std::move(token));
  else
    tokens_[entry->second] = std::move(token);
}

std::optional<int32_t> AddedTokens::token_to_id(std::string_view token) const {
  const auto found = by_content_.find(std::string(token));
  if (found == by_content_.end()) return std::nullopt;
  return tokens_[found->second].id;
}

const std::string* AddedTokens::id_to_token(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second;
}

bool AddedTokens::is_special(std::string_view token) const {
  const auto found = by_content_.find(std::string(token));
  return found != by_content_.end() && tokens_[found->second].special;
}

void AddedTokens::Matcher::add(const AddedToken& token, std::string_view text) {
  if (text.empty()) return;
  std::uint64_t node = 0;
  for (const char c : text) {
    const std::uint64_t edge = node << 8 | static_cast<unsigned char>(c);
    if (const std::uint64_t* next = edges.find(edge)) {
      node = *next;
    } else {
      node = ends.size();
      edges.insert_or_assign(edge, node);
      ends.push_back(-1);
    }
  }
  if (ends[node] >= 0) return;
  ends[node] = static_cast<int32_t>(tokens.size());
  tokens.push_back(token);
  starts[static_cast<unsigned char>(text[0])] = true;
}

int32_t AddedTokens::Matcher::longest(std::string_view text, std::size_t at, std::size_t& end) const {
  int32_t best = -1;
  std::uint64_t node = 0;
  while (at < text.size()) {
    const std::uint64_t* next = edges.find(node << 8 | static_cast<unsigned char>(text[at]));
    if (!next) break;
    node = *next;
    ++at;
    if (ends[node] < 0) continue;
    best = ends[node];
    end = at;
  }
  return best;
}

std::vector<TextPart> AddedTokens::split(std::string_view text, const Matcher& matcher) {
  std::vector<TextPart> parts;
  std::size_t done = 0;  // up to here the text is in parts
  for (std::size_t at = 0; at < text.size() && !matcher.tokens.empty();) {
    std::size_t match_end = at;
    const int32_t index =
        matcher.starts[static_cast<unsigned char>(text[at])] ? matcher.longest(text, at, match_end) : -1;
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = matcher.tokens[index];
    std::size_t begin = at, end = match_end;
    at = match_end;
    if (token.single_word) {
      std::size_t after = end;
      const bool word_before = begin > 0 && is_word_character(last_code_point(text, begin));
      const bool word_after = end < text.size() && is_word_character(next_code_point(text, after));
      if (word_before || word_after) continue;
    }
    if (token.lstrip) begin = std::max(spaces_before(text, begin), done);
    if (token.rstrip) end = spaces_behind(text, end);
    if (begin > done) parts.push_back({{done, begin}, -1});
    parts.push_back({{begin, end}, token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, -1});
  return parts;
}

}  // namespace ithaca
