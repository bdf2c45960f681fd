#include "ithaca/text/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/hash.h"
#include "ithaca/text/decoder.h"
#include "ithaca/text/encoder.h"
#include "ithaca/text/post_processor.h"
#include "ithaca/text/tokenizer_folder.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

const Json& null_json() {
  static const Json null;
  return null;
}

JsonNode optional(const JsonNode& root, const std::string& key) {
  return root.has(key) ? root.at(key) : JsonNode(null_json(), root.where() + "." + key);
}

std::unique_ptr<JsonNode> added_token_list(const JsonNode& root) {
  return root.has("added_tokens") ? std::make_unique<JsonNode>(root.at("added_tokens")) : nullptr;
}

constexpr int kMaxRegexes = 100;  // each may take a megabyte once compiled; real files have up to ten

int count_regexes(const Json& node) {
  if (!node.is_structured()) return 0;
  int count = node.is_object() && node.contains("Regex") ? 1 : 0;
  for (const Json& inner : node) count += count_regexes(inner);
  return count;
}

// The file's rules, which make what stands in them much larger; its depth is bounded by the parser.
const JsonNode& checked(const JsonNode& root) {
  int count = 0;
  for (const char* section : {"normalizer", "pre_tokenizer", "decoder"})
    if (root.has(section)) count += count_regexes(root.at(section).value());
  if (count > kMaxRegexes)
    throw UserError(
        str(root.where(), ": has ", count, " regular expressions; at most ", kMaxRegexes, " are accepted"));
  return root;
}

}  // namespace

struct Tokenizer::Impl {
  Impl(const JsonNode& root, const std::vector<AddedToken>& named, bool split_special_tokens)
      : model(checked(root).at("model")),
        normalizer(make_normalizer(optional(root, "normalizer"))),
        pre_tokenizer(optional(root, "pre_tokenizer"), alphabet),
        post_processor(PostProcessor::from_json(optional(root, "post_processor"))),
        decoder(make_decoder(optional(root, "decoder"), alphabet)),
        added(added_token_list(root).get(), named, model, normalizer.get(), split_special_tokens),
        encoders({added, normalizer.get(), pre_tokenizer, model, alphabet}) {}

  std::optional<int32_t> id_of(std::string_view token) const {
    if (const auto id = added.token_to_id(token)) return id;
    return model.token_to_id(token);
  }

  ByteLevelAlphabet alphabet;
  BytePairModel model;
  std::unique_ptr<Normalizer> normalizer;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  std::unique_ptr<Decoder> decoder;
  AddedTokens added;
  EncoderPool encoders;
  std::optional<int32_t> bos_id, eos_id;
  std::string fingerprint;
  std::vector<std::string> remarks;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(const Json& json, const std::string& source) {
  Tokenizer tokenizer(std::make_unique<Impl>(JsonNode(json, source), std::vector<AddedToken>(), false));
  Sha256 hash;
  hash.update(json.dump());
  tokenizer.impl_->fingerprint = hash.hex();
  return tokenizer;
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder) {
  TokenizerFolder read = read_tokenizer_folder(folder);
  Tokenizer tokenizer(
      std::make_unique<Impl>(JsonNode(read.tokenizer, read.source), read.named, read.split_special_tokens));
  Impl& impl = *tokenizer.impl_;
  impl.bos_id = impl.id_of(read.bos);
  impl.eos_id = impl.id_of(read.eos);
  impl.fingerprint = std::move(read.fingerprint);
  impl.remarks = std::move(read.remarks);
  return tokenizer;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                       const std::function<void()>& poll) const {
  const std::string valid = to_valid_utf8(text);
  std::vector<int32_t> ids;
  const PostProcessor& post = impl_->post_processor;
  if (add_special_tokens) ids = post.before;
  impl_->encoders.encode(valid, ids, poll);
  if (add_special_tokens) ids.insert(ids.end(), post.behind.begin(), post.behind.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  std::size_t bytes = 0;
  for (const int32_t id : ids) {
    const std::string* token = impl_->added.id_to_token(id);
    if (!token) token = impl_->model.id_to_token(id);
    if (!token || (skip_special_tokens && impl_->added.is_special(*token))) continue;
    bytes += token->size();
    tokens.push_back(*token);
  }
  RegexScratch scratch(16 * bytes + (std::size_t{1} << 20));
  const bool has_decoder = impl_->decoder != nullptr;
  if (has_decoder) tokens = impl_->decoder->run(std::move(tokens), scratch);
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && !has_decoder) text += ' ';
    text += tokens[i];
  }
  return text;
}

int32_t Tokenizer::vocab_size() const {
  return std::max(impl_->model.max_id(), impl_->added.max_id()) + 1;
}
std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return impl_->id_of(token);
}
std::optional<int32_t> Tokenizer::bos_id() const {
  return impl_->bos_id;
}
std::optional<int32_t> Tokenizer::eos_id() const {
  return impl_->eos_id;
}
bool Tokenizer::adds_bos() const {
  const auto& before = impl_->post_processor.before;
  return impl_->bos_id && std::find(before.begin(), before.end(), *impl_->bos_id) != before.end();
}
const std::string& Tokenizer::fingerprint() const {
  return impl_->fingerprint;
}
const std::vector<std::string>& Tokenizer::remarks() const {
  return impl_->remarks;
}

}  // namespace ithaca
