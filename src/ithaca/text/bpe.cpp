#include "ithaca/text/bpe.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::int64_t kMaxTokens = 16'000'000;  // ids above are refused
constexpr std::size_t kMaxWordBytes = std::size_t{1} << 31;

std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) {
  return std::uint64_t{left} << 32 | right;
}

}  // namespace

BytePairModel::BytePairModel(const JsonNode& model) {
  const std::string type = model.text_or("type", "BPE");  // GPT-2's own file has none
  if (type != "BPE") model.unsupported("model type", type, "BPE");
  if (model.has("dropout") && model.at("dropout").value() != 0.0)
    throw UserError(str(model.where(), ".dropout: random merges are not supported; set it to null"));
  prefix_ = model.text_or("continuing_subword_prefix", "");
  suffix_ = model.text_or("end_of_word_suffix", "");
  fuse_unk_ = model.flag_or("fuse_unk", false);
  byte_fallback_ = model.flag_or("byte_fallback", false);
  ignore_merges_ = model.flag_or("ignore_merges", false);
  can_cut_ = prefix_.empty() && suffix_.empty();
  read_vocab(model.at("vocab"));
  if (model.has("unk_token")) {
    unk_token_ = model.text("unk_token");
    unk_id_ = token_to_id(*unk_token_);
  }
  read_byte_tokens();
  read_merges(model.at("merges"));
}

void BytePairModel::read_vocab(const JsonNode& vocab) {
  if (!vocab.value().is_object()) vocab.fail("an object of token: id");
  ids_.reserve(vocab.value().size());
  tokens_.reserve(vocab.value().size());
  bmp_ids_.assign(0x10000, -1);
  for (const auto& [token, id_json] : vocab.value().items()) {
    const auto id =
        static_cast<int32_t>(JsonNode(id_json, vocab.where() + "[\"" + token + "\"]").integer(0, kMaxTokens));
    const auto entry = ids_.emplace(token, id).first;
    const auto [other, is_new] = tokens_.emplace(id, &entry->first);
    if (!is_new)
      throw UserError(str(vocab.where(), ": the id ", id, " belongs to two tokens, \"", *other->second,
                          "\" and \"", token, "\""));
    max_id_ = std::max(max_id_, id);
    if (token.empty()) continue;
    std::size_t end = 0;
    const char32_t c = next_code_point(token, end);
    if (end == token.size() && c < 0x10000) bmp_ids_[c] = id;
  }
}

void BytePairModel::read_byte_tokens() {
  byte_ids_.assign(256, -1);
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string token = std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
    byte_ids_[byte] = token_to_id(token).value_or(-1);
  }
}

void BytePairModel::read_merges(const JsonNode& merges) {
  const std::size_t count = merges.size();
  merges_ = FlatMap(count);
  const Json& list = merges.value();
  for (std::size_t rank = 0; rank < count; ++rank) {
    const Json& merge = list[rank];
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
        merges.item(rank).fail("two tokens with a space between");
      const std::string_view view = text;
      add_merge(view.substr(0, space), view.substr(space + 1), static_cast<uint32_t>(rank), merges);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      add_merge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(),
                static_cast<uint32_t>(rank), merges);
    } else {
      merges.item(rank).fail("\"left right\" or [\"left\", \"right\"]");
    }
  }
}

void BytePairModel::add_merge(std::string_view left, std::string_view right, uint32_t rank,
                              const JsonNode& where) {
  const std::string merged =
      std::string(left) + std::string(right.substr(std::min(prefix_.size(), right.size())));
  const std::array<std::string_view, 3> tokens{left, right, merged};
  std::array<int32_t, 3> ids{};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto id = token_to_id(tokens[i]);
    if (!id)
      throw UserError(str(where.where(), "[", rank, "]: the token \"", std::string(tokens[i]),
                          "\" is not in the vocabulary"));
    ids[i] = *id;
  }
  merges_.insert_or_assign(pair_key(ids[0], ids[1]), pair_key(rank, ids[2]));
  if (can_cut_) note_neighbours(merged);
}

void BytePairModel::note_neighbours(std::string_view token) {
  std::size_t position = 0;
  if (token.empty()) return;
  char32_t left = next_code_point(token, position);
  while (position < token.size()) {
    const char32_t right = next_code_point(token, position);
    neighbours_.insert_or_assign(pair_key(left, right), 1);
    left = right;
  }
}

std::optional<int32_t> BytePairModel::whole_word(std::string_view word) const {
  return ignore_merges_ ? token_to_id(word) : std::nullopt;
}

std::size_t BytePairModel::next_cut(std::string_view word, std::size_t from) const {
  if (!can_cut_) return word.size();
  // Characters without a token of their own become bytes or unknowns, whose merges and fusing look further:
  // no cut beside them.
  auto plain = [&](char32_t c) { return c < 0x10000 && bmp_ids_[c] >= 0; };
  std::size_t position = from;
  char32_t left = next_code_point(word, position);
  while (position < word.size()) {
    const std::size_t boundary = position;
    const char32_t right = next_code_point(word, position);
    if (plain(left) && plain(right) && !neighbours_.contains(pair_key(left, right))) return boundary;
    left = right;
  }
  return word.size();
}

std::optional<int32_t> BytePairModel::token_to_id(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* BytePairModel::id_to_token(int32_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? nullptr : found->second;
}

int32_t BytePairModel::initial_id(std::string_view word, std::size_t begin, std::size_t end,
                                  char32_t c) const {
  if (can_cut_ && c < 0x10000) return bmp_ids_[c];
  if (can_cut_) return token_to_id(word.substr(begin, end - begin)).value_or(-1);
  std::string token = (begin > 0 ? prefix_ : "") + std::string(word.substr(begin, end - begin));
  if (end == word.size()) token += suffix_;
  return token_to_id(token).value_or(-1);
}

int32_t BytePairModel::unk_id() const {
  if (unk_id_) return *unk_id_;
  throw UserError(str("tokenizer.json: the text has a character without a token, and model.unk_token, \"",
                      *unk_token_,
                      "\", which would stand for it, is not in model.vocab; add it there, or take the "
                      "character out of the text"));
}

void BytePairModel::split_into_symbols(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  auto add = [&](int32_t id) {
    const auto index = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, index - 1, index + 1});
  };
  bool unk_waits = false;  // an unknown character, which following ones may join
  for (std::size_t begin = 0, end = 0; begin < word.size(); begin = end) {
    const char32_t c = next_code_point(word, end);
    const int32_t id = initial_id(word, begin, end, c);
    if (id >= 0) {
      if (unk_waits) add(unk_id());
      unk_waits = false;
      add(id);
      continue;
    }
    if (byte_fallback_) {
      const std::string_view bytes = word.substr(begin, end - begin);
      auto byte_id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
      if (std::all_of(bytes.begin(), bytes.end(), [&](char byte) { return byte_id(byte) >= 0; })) {
        for (const char byte : bytes) add(byte_id(byte));
        continue;
      }
    }
    if (!unk_token_) continue;
    if (unk_waits && !fuse_unk_) add(unk_id());
    unk_waits = true;
  }
  if (unk_waits) add(unk_id());
  if (!symbols.empty()) symbols.back().next = -1;
}

void BytePairModel::push_candidate(int32_t position, Scratch& scratch) const {
  const auto& left = scratch.symbols[position];
  if (left.next < 0) return;
  const std::uint64_t* merge = merges_.find(pair_key(left.id, scratch.symbols[left.next].id));
  if (!merge) return;
  scratch.heap.push_back(
      {static_cast<uint32_t>(*merge >> 32), position, static_cast<int32_t>(*merge & 0xFFFFFFFFu)});
}

void BytePairModel::merge_symbols(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  heap.clear();
  for (std::size_t i = 0; i < symbols.size(); ++i) push_candidate(static_cast<int32_t>(i), scratch);
  std::make_heap(heap.begin(), heap.end());
  auto push = [&](int32_t position) {
    const std::size_t before = heap.size();
    push_candidate(position, scratch);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    auto& left = symbols[top.position];
    if (left.id < 0 || left.next < 0) continue;
    auto& right = symbols[left.next];
    const std::uint64_t* merge = merges_.find(pair_key(left.id, right.id));
    if (!merge || static_cast<int32_t>(*merge & 0xFFFFFFFFu) != top.merged) continue;  // the pair is gone
    left.id = top.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[left.next].previous = top.position;
    if (left.previous >= 0) push(left.previous);
    push(top.position);
  }
}

void BytePairModel::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (word.size() >= kMaxWordBytes)
    throw UserError("the text has a word of 2 GiB or more: split it into documents");
  split_into_symbols(word, scratch);
  merge_symbols(scratch);
  for (const auto& symbol : scratch.symbols)
    if (symbol.id >= 0) ids.push_back(symbol.id);
}

}  // namespace ithaca
