#include "ithaca/text/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/text/decoder.h"
#include "ithaca/text/encoder.h"
#include "ithaca/text/post_processor.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::size_t kMaxTokenizerBytes = std::size_t{256} << 20;
constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20;

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

// A special token is its text, or an object with it under "content".
std::string special_token(const JsonNode& config, const std::string& key) {
  if (!config.has(key)) return "";
  const JsonNode token = config.at(key);
  return token.value().is_object() ? token.text("content") : token.text();
}

// The template itself, or a list of {name, template}, of which "default" counts.
std::string template_text(const JsonNode& config) {
  if (!config.has("chat_template")) return "";
  const JsonNode node = config.at("chat_template");
  if (!node.value().is_array()) return node.text();
  for (std::size_t i = 0; i < node.size(); ++i)
    if (node.item(i).text("name") == "default") return node.item(i).text("template");
  return "";
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(const JsonNode& root)
      : model(root.at("model")),
        normalizer(make_normalizer(optional(root, "normalizer"))),
        pre_tokenizer(optional(root, "pre_tokenizer"), alphabet),
        post_processor(PostProcessor::from_json(optional(root, "post_processor"))),
        decoder(make_decoder(optional(root, "decoder"), alphabet)),
        added(added_token_list(root).get(), model, normalizer.get()) {}

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
  std::optional<int32_t> bos_id, eos_id;
  std::string fingerprint, chat_template;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(const Json& json, const std::string& source) {
  Tokenizer tokenizer(std::make_unique<Impl>(JsonNode(json, source)));
  Sha256 hash;
  hash.update(json.dump());
  tokenizer.impl_->fingerprint = hash.hex();
  return tokenizer;
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder) {
  const auto path = folder / "tokenizer.json";
  if (!std::filesystem::exists(path))
    throw UserError(str(folder.string(),
                        ": no tokenizer.json; a tokenizer.model or vocab.json + merges.txt must be converted "
                        "first (save_pretrained of transformers' fast tokenizer writes one)"));
  Sha256 hash;
  auto read = [&](const char* name, std::size_t limit) {
    std::string text = read_file(folder / name, limit);
    hash.update(str(name, '\0', text.size(), '\0'));
    hash.update(text);
    return text;
  };
  const std::string text = read("tokenizer.json", kMaxTokenizerBytes);
  Tokenizer tokenizer(std::make_unique<Impl>(JsonNode(parse_json(text, path.string()), path.string())));
  Impl& impl = *tokenizer.impl_;
  // tokenizer_config.json comes last: its word counts.
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const auto config_path = folder / name;
    if (!std::filesystem::exists(config_path)) continue;
    const Json json = parse_json(read(name, kMaxConfigBytes), config_path.string());
    const JsonNode config(json, config_path.string());
    if (const auto id = impl.id_of(special_token(config, "bos_token"))) impl.bos_id = id;
    if (const auto id = impl.id_of(special_token(config, "eos_token"))) impl.eos_id = id;
    impl.chat_template = template_text(config);
  }
  if (std::filesystem::exists(folder / "chat_template.jinja"))
    impl.chat_template = read("chat_template.jinja", kMaxConfigBytes);
  impl.fingerprint = hash.hex();
  return tokenizer;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                       const std::function<void()>& poll) const {
  const std::string valid = to_valid_utf8(text);
  std::vector<int32_t> ids;
  const PostProcessor& post = impl_->post_processor;
  if (add_special_tokens) ids = post.before;
  Encoder encoder(
      {impl_->added, impl_->normalizer.get(), impl_->pre_tokenizer, impl_->model, impl_->alphabet},
      valid.size());
  encoder.set_poll(&poll);
  encoder.encode(valid, ids);
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
const std::string& Tokenizer::chat_template() const {
  return impl_->chat_template;
}

}  // namespace ithaca
