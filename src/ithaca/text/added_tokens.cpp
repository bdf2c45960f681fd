#include "ithaca/text/added_tokens.h"

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::int64_t kMaxTokens = 16'000'000;
constexpr std::size_t kMaxGrowth = 16;  // of all tokens' texts under the normalizer, besides 1 MiB

// Not before `begin`.
std::size_t spaces_before(std::string_view text, std::size_t begin, std::size_t end) {
  while (end > begin) {
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

AddedTokens::AddedTokens(const JsonNode* list, const std::vector<AddedToken>& named,
                         const BytePairModel& model, const Normalizer* normalizer, bool split_special)
    : split_special_(split_special) {
  if (list) read_list(*list, model);
  for (const AddedToken& token : named) add_named(token, model);
  // Of two tokens that normalise to one text the special one wins, then the first.
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const auto& a, const auto& b) { return a.special > b.special; });
  for (std::size_t i = 0; i < tokens_.size(); ++i) by_content_[tokens_[i].content] = i;
  make_finders(normalizer);
}

void AddedTokens::read_list(const JsonNode& list, const BytePairModel& model) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonNode node = list.item(i);
    AddedToken token;
    token.content = node.text("content");
    token.id = static_cast<int32_t>(node.at("id").integer(0, kMaxTokens));
    token.single_word = node.flag_or("single_word", false);
    token.lstrip = node.flag_or("lstrip", false);
    token.rstrip = node.flag_or("rstrip", false);
    token.special = node.flag_or("special", false);
    token.normalized = node.flag_or("normalized", !token.special);
    if (!token.content.empty()) add_token(std::move(token), model, node);
  }
}

void AddedTokens::add_named(AddedToken token, const BytePairModel& model) {
  if (token.content.empty() || by_content_.contains(token.content)) return;
  token.id = model.token_to_id(token.content).value_or(next_id(model));
  put(std::move(token));
}

int32_t AddedTokens::next_id(const BytePairModel& model) const {
  const auto vocab_size = static_cast<int32_t>(model.vocab_size());
  return max_id_ < vocab_size ? vocab_size : max_id_ + 1;
}

void AddedTokens::make_finders(const Normalizer* normalizer) {
  std::size_t bytes = 0;
  for (const AddedToken& token : tokens_) bytes += token.content.size();
  std::size_t room = kMaxGrowth * bytes + (std::size_t{1} << 20);
  RegexScratch scratch(room);
  std::vector<std::string> raw, normalized;
  for (const AddedToken& token : tokens_) {
    Finder& finder = token.normalized ? normalized_ : raw_;
    (token.normalized ? normalized : raw).push_back(token.content);
    finder.tokens.push_back(token);
    if (!token.normalized || !normalizer) continue;
    normalized.back() = normalizer->run(token.content, scratch);
    scratch.check_growth(normalized.back().size());
    room -= normalized.back().size();
    scratch.set_limit(room);
  }
  raw_.matcher = TokenMatcher(raw);
  normalized_.matcher = TokenMatcher(normalized);
}

void AddedTokens::add_token(AddedToken token, const BytePairModel& model, const JsonNode& where) {
  const auto known = model.token_to_id(token.content);
  if (known && *known != token.id)
    throw UserError(str(where.where(), ": \"", token.content, "\" has the id ", token.id, " here and ",
                        *known, " in model.vocab; give both the same id"));
  const int32_t next = next_id(model);
  if (!known && token.id != next && !by_content_.contains(token.content))
    throw UserError(str(where.where(), ": \"", token.content, "\" has the id ", token.id, "; expected ", next,
                        ", because a token that is not in model.vocab gets the next free id (the tokenizers "
                        "library would give it that one, "
                        "whatever stands here)"));
  put(std::move(token));
}

void AddedTokens::put(AddedToken token) {
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

std::vector<TextPart> AddedTokens::split(std::string_view text, const Finder& finder, bool split_special) {
  std::vector<TextPart> parts;
  std::size_t done = 0;  // up to here the text is in parts
  Span run{1, 0};        // of spaces, the last that was walked
  for (const TokenMatcher::Match& match : finder.matcher.find(text)) {
    const AddedToken& token = finder.tokens[match.token];
    std::size_t begin = match.span.begin, end = match.span.end;
    if (split_special && token.special) continue;
    if (token.single_word) {
      std::size_t after = end;
      const bool word_before = begin > 0 && is_word_character(last_code_point(text, begin));
      const bool word_after = end < text.size() && is_word_character(next_code_point(text, after));
      if (word_before || word_after) continue;
    }
    if (token.lstrip) begin = std::max(spaces_before(text, done, begin), done);
    if (token.rstrip) {
      // A token may be a space itself: the run is walked once.
      if (end < run.begin || end > run.end) run = {end, spaces_behind(text, end)};
      end = run.end;
    }
    if (begin > done) parts.push_back({{done, begin}, -1});
    parts.push_back({{begin, end}, token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, -1});
  return parts;
}

}  // namespace ithaca
