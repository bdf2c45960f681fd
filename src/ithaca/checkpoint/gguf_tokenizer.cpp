#include "ithaca/checkpoint/gguf_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace ithaca {
namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr const char* kSpace = "\u2581";  // SentencePiece's mark of a space

// Every split of a piece is looked up, so that the work grows with its length squared. SentencePiece's own pieces have
// 16 characters at most.
constexpr std::size_t kMaxPieceBytes = 1024;

// llama.cpp's token types
enum TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// The splits of these families' own tokenizer.json files.
constexpr const char* kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

using Ids = std::unordered_map<std::string_view, int64_t>;

struct Vocabulary {
  const std::vector<std::string>& tokens;
  std::vector<int64_t> types;  // of each token
  Ids ids;
  bool has(int64_t type) const { return std::find(types.begin(), types.end(), type) != types.end(); }
};

Vocabulary read_vocabulary(const GgufMetadata& metadata) {
  const std::vector<std::string>* tokens = metadata.texts(kTokens);
  if (!tokens || tokens->empty()) throw metadata.bad(kTokens, "is missing or empty");
  Vocabulary vocabulary{*tokens, std::vector<int64_t>(tokens->size(), kNormal), {}};
  if (const std::vector<int64_t>* types = metadata.integers(kTypes)) {
    if (types->size() != tokens->size())
      throw metadata.bad(kTypes, str("has ", types->size(), " entries for ", tokens->size(), " tokens"));
    vocabulary.types = *types;
  }
  vocabulary.ids.reserve(tokens->size());
  for (std::size_t id = 0; id < tokens->size(); ++id) {
    const auto [place, added] = vocabulary.ids.emplace((*tokens)[id], static_cast<int64_t>(id));
    if (!added)
      throw metadata.bad(kTokens,
                         str("entries ", place->second, " and ", id, " are both \"", (*tokens)[id], "\""));
  }
  return vocabulary;
}

GgufSpecialTokens read_special_tokens(const GgufMetadata& metadata, const Vocabulary& vocabulary,
                                      bool sentencepiece) {
  const int64_t last = static_cast<int64_t>(vocabulary.tokens.size()) - 1;
  const auto id = [&](const char* name, int64_t sentencepiece_default) {
    std::optional<int64_t> value = metadata.integer(str("tokenizer.ggml.", name, "_token_id"), 0, last);
    if (!value && sentencepiece && sentencepiece_default >= 0 && sentencepiece_default <= last)
      value = sentencepiece_default;
    return value;
  };
  // SentencePiece's own defaults; byte-level vocabularies have none
  return {id("bos", 1), id("eos", 2), id("unknown", 0), id("padding", -1), id("eot", -1), id("eom", -1)};
}

Json pair_of(const GgufMetadata& metadata, const Vocabulary& vocabulary, const std::string& merge,
             std::size_t index) {
  const std::size_t space = merge.find(' ');
  if (space == 0 || space == std::string::npos || space + 1 == merge.size() ||
      merge.find(' ', space + 1) != std::string::npos)
    throw metadata.bad(kMerges,
                       str("entry ", index, " is \"", merge, "\", expected two tokens with a space between"));
  const std::string left = merge.substr(0, space);
  const std::string right = merge.substr(space + 1);
  for (const std::string& token : {left, right, left + right})
    if (!vocabulary.ids.count(token))
      throw metadata.bad(kMerges, str("entry ", index, " (\"", merge, "\") needs the token \"", token,
                                      "\", which is not in ", kTokens));
  return Json::array({left, right});
}

Json listed_merges(const GgufMetadata& metadata, const Vocabulary& vocabulary) {
  const std::vector<std::string>* merges = metadata.texts(kMerges);
  if (!merges) throw metadata.bad(kMerges, "is missing");
  Json pairs = Json::array();
  for (std::size_t i = 0; i < merges->size(); ++i)
    pairs.push_back(pair_of(metadata, vocabulary, (*merges)[i], i));
  return pairs;
}

// SentencePiece keeps scores instead of merges: a better score is merged earlier. Every way to make a piece
// of two others is a merge; equal scores are ordered as transformers orders them (longer left part, longer
// right part, piece, ids).
Json merges_from_scores(const GgufMetadata& metadata, const Vocabulary& vocabulary) {
  const std::vector<double>* scores = metadata.reals(kScores);
  if (!scores) throw metadata.bad(kScores, str("is missing, and so is ", kMerges));
  if (scores->size() != vocabulary.tokens.size())
    throw metadata.bad(kScores,
                       str("has ", scores->size(), " entries for ", vocabulary.tokens.size(), " tokens"));
  struct Merge {
    double score;
    int64_t left_length, right_length;  // in characters
    int64_t left, right;
  };
  std::vector<Merge> merges;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.types[id] != kNormal && vocabulary.types[id] != kUserDefined) continue;
    const std::string_view piece = vocabulary.tokens[id];
    if (piece.size() > kMaxPieceBytes)
      throw metadata.bad(kTokens, str("entry ", id, " has ", piece.size(), " bytes; at most ", kMaxPieceBytes,
                                      " are read of a SentencePiece token"));
    const auto starts_character = [&](std::size_t at) {
      return (static_cast<unsigned char>(piece[at]) & 0xC0) != 0x80;
    };
    int64_t characters = 0;
    for (std::size_t at = 0; at < piece.size(); ++at) characters += starts_character(at);
    const std::size_t first = merges.size();
    int64_t left_length = 0;
    for (std::size_t at = 0; at < piece.size(); ++at) {
      if (!starts_character(at)) continue;
      if (at > 0) {
        const auto left = vocabulary.ids.find(piece.substr(0, at));
        const auto right = vocabulary.ids.find(piece.substr(at));
        if (left != vocabulary.ids.end() && right != vocabulary.ids.end())
          merges.push_back(
              {(*scores)[id], left_length, characters - left_length, left->second, right->second});
      }
      ++left_length;
    }
    std::sort(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(),
              [](const Merge& a, const Merge& b) {
                return std::pair(a.left, a.right) < std::pair(b.left, b.right);
              });
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(a.score, a.left_length, a.right_length) >
           std::tuple(b.score, b.left_length, b.right_length);
  });
  Json pairs = Json::array();
  for (const Merge& merge : merges)
    pairs.push_back({vocabulary.tokens[static_cast<std::size_t>(merge.left)],
                     vocabulary.tokens[static_cast<std::size_t>(merge.right)]});
  return pairs;
}

Json byte_level(bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json sequence(const char* parts, Json list) {
  return {{"type", "Sequence"}, {parts, std::move(list)}};
}

Json split_then_bytes(const char* regex) {
  const Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
  return sequence("pretokenizers", Json::array({split, byte_level(false)}));
}

struct PreTokenizer {
  Json steps;
  Json normalizer;
  bool ignore_merges = false;
  bool add_bos = false;  // llama.cpp's default for this family
};

PreTokenizer read_pre_tokenizer(const GgufMetadata& metadata) {
  const std::string name = metadata.text(kPre).value_or("(absent)");
  if (name == "smollm") {
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    return {sequence("pretokenizers", Json::array({digits, byte_level(true)})), nullptr};
  }
  if (name == "gpt-2" || name == "gpt2") return {byte_level(true), nullptr};
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3")
    return {split_then_bytes(kLlama3Split), nullptr, true, true};
  if (name == "qwen2" || name == "deepseek-r1-qwen")
    return {split_then_bytes(kQwen2Split), {{"type", "NFC"}}};
  throw metadata.bad(kPre,
                     str("is ", name, ", which is not supported; known are smollm, gpt-2, llama-bpe, qwen2"));
}

Json added_token(int64_t id, const std::string& content, bool special, bool normalized) {
  return {{"id", id},        {"content", content},       {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", normalized}, {"special", special}};
}

Json added_tokens(const Vocabulary& vocabulary, const GgufSpecialTokens& special) {
  std::set<int64_t> named;
  for (const std::optional<int64_t>& id :
       {special.bos, special.eos, special.unk, special.pad, special.eot, special.eom})
    if (id) named.insert(*id);
  Json list = Json::array();
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const int64_t id = static_cast<int64_t>(i);
    const std::string& content = vocabulary.tokens[i];
    const int64_t type = vocabulary.types[i];
    if (content.empty()) continue;
    if (type == kControl || type == kUnknown || named.count(id))
      list.push_back(added_token(id, content, true, false));
    else if (type == kUserDefined)  // one with a SentencePiece space can only be met after normalisation
      list.push_back(added_token(id, content, false, content.find(kSpace) != std::string::npos));
  }
  return list;
}

// Puts bos before and eos after a text, as llama.cpp does for this file.
Json post_processor(const GgufMetadata& metadata, const Vocabulary& vocabulary,
                    const GgufSpecialTokens& special, bool default_add_bos) {
  const bool add_bos = metadata.boolean("tokenizer.ggml.add_bos_token").value_or(default_add_bos);
  const bool add_eos = metadata.boolean("tokenizer.ggml.add_eos_token").value_or(false);
  if (add_bos && !special.bos)
    throw metadata.bad("tokenizer.ggml.bos_token_id", "is missing, and add_bos_token asks for it");
  if (add_eos && !special.eos)
    throw metadata.bad("tokenizer.ggml.eos_token_id", "is missing, and add_eos_token asks for it");
  if (!add_bos && !add_eos) return nullptr;
  Json tokens = Json::object();
  const auto token = [&](int64_t id, int type_id) {
    const std::string& content = vocabulary.tokens[static_cast<std::size_t>(id)];
    tokens[content] = {{"id", content}, {"ids", {id}}, {"tokens", {content}}};
    return Json{{"SpecialToken", {{"id", content}, {"type_id", type_id}}}};
  };
  const auto add_text = [&](Json& list, const char* name, int type_id) {
    if (add_bos) list.push_back(token(*special.bos, type_id));
    list.push_back({{"Sequence", {{"id", name}, {"type_id", type_id}}}});
    if (add_eos) list.push_back(token(*special.eos, type_id));
  };
  Json single = Json::array();
  Json pair = Json::array();
  add_text(single, "A", 0);
  add_text(pair, "A", 0);
  add_text(pair, "B", 1);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

Json vocabulary_json(const Vocabulary& vocabulary) {
  Json json = Json::object();
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) json[vocabulary.tokens[id]] = id;
  return json;
}

Json bpe_model(const Vocabulary& vocabulary, Json merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocabulary_json(vocabulary)},
          {"merges", std::move(merges)}};
}

Json byte_level_tokenizer(const GgufMetadata& metadata, const Vocabulary& vocabulary,
                          const GgufSpecialTokens& special) {
  const PreTokenizer pre = read_pre_tokenizer(metadata);
  Json model = bpe_model(vocabulary, listed_merges(metadata, vocabulary));
  model["ignore_merges"] = pre.ignore_merges;
  return {{"normalizer", pre.normalizer},
          {"pre_tokenizer", pre.steps},
          {"post_processor", post_processor(metadata, vocabulary, special, pre.add_bos)},
          {"decoder", byte_level(true)},
          {"model", std::move(model)}};
}

Json sentencepiece_tokenizer(const GgufMetadata& metadata, const Vocabulary& vocabulary,
                             const GgufSpecialTokens& special) {
  Json model = bpe_model(vocabulary, metadata.has(kMerges) ? listed_merges(metadata, vocabulary)
                                                           : merges_from_scores(metadata, vocabulary));
  if (special.unk) model["unk_token"] = vocabulary.tokens[static_cast<std::size_t>(*special.unk)];
  model["fuse_unk"] = true;
  model["byte_fallback"] = vocabulary.has(kByte);
  const auto replace = [](const char* from, const char* to) {
    return Json{{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
  };
  Json normalizers = Json::array({replace(" ", kSpace)});
  Json decoders = Json::array({replace(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (metadata.boolean("tokenizer.ggml.add_space_prefix").value_or(true)) {
    const Json prepend = {{"type", "Prepend"}, {"prepend", kSpace}};
    normalizers.insert(normalizers.begin(), prepend);
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return {{"normalizer", sequence("normalizers", normalizers)},
          {"pre_tokenizer", nullptr},
          {"post_processor", post_processor(metadata, vocabulary, special, true)},
          {"decoder", sequence("decoders", decoders)},
          {"model", std::move(model)}};
}

}  // namespace

GgufTokenizer read_gguf_tokenizer(const GgufMetadata& metadata) {
  const std::string kind = metadata.text("tokenizer.ggml.model").value_or("(absent)");
  if (kind != "gpt2" && kind != "llama")
    throw metadata.bad(
        "tokenizer.ggml.model",
        str("is ", kind,
            ", which is not supported; known are gpt2 (byte-level BPE) and llama (SentencePiece BPE)"));
  const bool sentencepiece = kind == "llama";
  const Vocabulary vocabulary = read_vocabulary(metadata);
  GgufTokenizer result;
  result.vocab_size = static_cast<int64_t>(vocabulary.tokens.size());
  result.ids = read_special_tokens(metadata, vocabulary, sentencepiece);

  Json tokenizer = sentencepiece ? sentencepiece_tokenizer(metadata, vocabulary, result.ids)
                                 : byte_level_tokenizer(metadata, vocabulary, result.ids);
  tokenizer["version"] = "1.0";
  tokenizer["truncation"] = nullptr;
  tokenizer["padding"] = nullptr;
  tokenizer["added_tokens"] = added_tokens(vocabulary, result.ids);

  Json special = Json::object();
  const auto name = [&](const char* key, const std::optional<int64_t>& id) {
    if (id) special[key] = vocabulary.tokens[static_cast<std::size_t>(*id)];
  };
  name("bos_token", result.ids.bos);
  name("eos_token", result.ids.eos);
  name("unk_token", result.ids.unk);
  name("pad_token", result.ids.pad);
  Json config = special;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config["clean_up_tokenization_spaces"] = false;
  if (const std::optional<std::string> chat = metadata.text("tokenizer.chat_template"))
    config["chat_template"] = *chat;

  result.tokenizer = std::make_unique<Json>(std::move(tokenizer));
  result.config = std::make_unique<Json>(std::move(config));
  result.special_tokens = std::make_unique<Json>(std::move(special));
  return result;
}

}  // namespace ithaca
