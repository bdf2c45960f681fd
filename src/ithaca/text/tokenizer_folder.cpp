#include "ithaca/text/tokenizer_folder.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/text/tokenizer_classes.h"
#include "ithaca/text/tokenizer_keys.h"

namespace ithaca {
namespace {

constexpr std::size_t kMaxTokenizerBytes = std::size_t{256} << 20;
constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20;
// Part of the fingerprint: a change of what the same files mean must not meet tokens of the old meaning.
constexpr std::string_view kRules = "rules of 2026-12";

constexpr std::string_view kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

// A token as text, or as an object with its content and flags. A text is a special token.
AddedToken read_token(const JsonNode& node, bool special) {
  AddedToken token;
  if (!node.value().is_object()) {
    token.content = node.text();
    token.special = true;
    token.normalized = false;
    return token;
  }
  token.content = node.text("content");
  token.single_word = node.flag_or("single_word", false);
  token.lstrip = node.flag_or("lstrip", false);
  token.rstrip = node.flag_or("rstrip", false);
  token.special = special || node.flag_or("special", false);
  token.normalized = node.flag_or("normalized", !token.special);
  return token;
}

// Whatever has a name is special; an object keeps its other flags.
AddedToken read_special(const JsonNode& node) {
  AddedToken token = read_token(node, false);
  token.special = true;
  return token;
}

// Reads the files one after another and hashes what it reads.
class FolderReader {
 public:
  explicit FolderReader(const std::filesystem::path& folder) : folder_(folder) { hash_.update(kRules); }

  bool has(const char* name) const { return std::filesystem::exists(folder_ / name); }
  std::string source(const char* name) const { return (folder_ / name).string(); }
  std::string text(const char* name, std::size_t limit) {
    std::string text = read_file(folder_ / name, limit);
    hash_.update(str(name, '\0', text.size(), '\0'));
    hash_.update(text);
    return text;
  }
  std::string fingerprint() { return hash_.hex(); }

 private:
  std::filesystem::path folder_;
  Sha256 hash_;
};

// tokenizer_config.json and what the files beside it change in it.
class NamedTokens {
 public:
  explicit NamedTokens(TokenizerFolder& result) : result_(result) {}

  void read(FolderReader& files) {
    const bool has_config = files.has("tokenizer_config.json");
    if (has_config) read_config(files);
    if (!decoder_) {
      if (files.has("special_tokens_map.json")) read_map(files);
      if (files.has("added_tokens.json")) read_added(files);
    }
    collect();
  }

 private:
  void read_config(FolderReader& files) {
    const std::string source = files.source("tokenizer_config.json");
    const std::string text = files.text("tokenizer_config.json", kMaxConfigBytes);
    const Json json = parse_json(text, source);
    const JsonNode config(json, source);
    check_tokenizer_keys("tokenizer_config.json", config, result_.remarks);
    if (!json.is_object()) config.fail("an object");
    read_names(config, text, false);
    if (json.contains("added_tokens_decoder")) read_decoder(config.at("added_tokens_decoder"));
    result_.split_special_tokens = config.flag_or("split_special_tokens", false);
    if (config.has("fast_tokenizer_files")) check_fast_files(config.at("fast_tokenizer_files"));
    if (config.has("tokenizer_class") && config.at("tokenizer_class").value().is_string())
      note_class_rules(config.text("tokenizer_class"), result_.tokenizer, result_.source, result_.remarks);
    note_post_processor(config);
  }

  void read_map(FolderReader& files) {
    const std::string source = files.source("special_tokens_map.json");
    const std::string text = files.text("special_tokens_map.json", kMaxConfigBytes);
    const Json json = parse_json(text, source);
    const JsonNode map(json, source);
    check_tokenizer_keys("special_tokens_map.json", map, result_.remarks);
    if (!json.is_object()) map.fail("an object");
    read_names(map, text, true);
  }

  // The seven names, lists, and every other key that ends in _token, in the file's order.
  void read_names(const JsonNode& file, const std::string& text, bool is_map) {
    for (const std::string_view name : kNames) {
      const std::string key(name);
      if (file.has(key))
        names_[key] = read_special(file.at(key));
      else if (is_map && file.value().contains(key))
        names_.erase(key);
    }
    const bool prefers_extra =
        file.has("extra_special_tokens") && !file.at("extra_special_tokens").value().empty();
    const auto in_order = nlohmann::ordered_json::parse(text);
    const std::string list = prefers_extra ? "extra_special_tokens" : "additional_special_tokens";
    if (file.has(list) && file.at(list).value().is_object())
      read_object(file.at(list), in_order[list]);
    else if (file.has(list))
      read_list(file, list, is_map);
    if (const char* key = "model_specific_special_tokens"; file.has(key))
      read_object(file.at(key), in_order[key]);
    for (const auto& [key, value] : in_order.items()) {
      if (!key.ends_with("_token") ||
          std::find(std::begin(kNames), std::end(kNames), key) != std::end(kNames))
        continue;
      if (value.is_string() || (value.is_object() && value.contains("content")))
        others_.push_back(read_special(file.at(key)));
    }
  }

  void read_list(const JsonNode& file, const std::string& key, bool is_map) {
    const JsonNode list = file.at(key);
    if (is_map && key == "additional_special_tokens" && !extra_.empty()) return;
    for (std::size_t i = 0; i < list.size(); ++i) extra_.push_back(read_token(list.item(i), is_map));
  }

  void read_object(const JsonNode& object, const nlohmann::ordered_json& in_order) {
    if (!object.value().is_object()) object.fail("an object of name: token");
    for (const auto& [key, value] : in_order.items()) others_.push_back(read_special(object.at(key)));
  }

  void read_decoder(const JsonNode& object) {
    decoder_.emplace();
    if (object.is_null()) return;
    if (!object.value().is_object()) object.fail("an object of id: token");
    for (const auto& [key, value] : object.value().items()) {
      std::int64_t id = -1;
      const auto end = key.data() + key.size();
      if (std::from_chars(key.data(), end, id).ptr != end || id < 0)
        object.at(key).fail("a number as its key");
      (*decoder_)[id] = read_token(object.at(key), false);
    }
  }

  void read_added(FolderReader& files) {
    const std::string source = files.source("added_tokens.json");
    const Json json = parse_json(files.text("added_tokens.json", kMaxConfigBytes), source);
    const JsonNode list(json, source);
    if (!json.is_object()) list.fail("an object of text: id");
    decoder_.emplace();
    for (const auto& [text, id] : json.items()) {
      AddedToken token;
      token.content = text;
      token.special = is_named(text);
      token.normalized = !token.special;
      (*decoder_)[JsonNode(id, str(source, "[\"", text, "\"]")).integer(0, INT32_MAX)] = token;
    }
  }

  bool is_named(const std::string& text) const {
    const auto same = [&](const AddedToken& token) { return token.content == text; };
    return std::any_of(extra_.begin(), extra_.end(), same) ||
           std::any_of(names_.begin(), names_.end(), [&](const auto& entry) { return same(entry.second); });
  }

  void collect() {
    if (decoder_)
      for (auto& [id, token] : *decoder_) {
        token.special = token.special || is_named(token.content);
        result_.named.push_back(token);
      }
    for (const std::string_view name : kNames) {
      const auto found = names_.find(std::string(name));
      if (found != names_.end()) result_.named.push_back(found->second);
    }
    result_.named.insert(result_.named.end(), others_.begin(), others_.end());
    result_.named.insert(result_.named.end(), extra_.begin(), extra_.end());
    if (const auto found = names_.find("bos_token"); found != names_.end())
      result_.bos = found->second.content;
    if (const auto found = names_.find("eos_token"); found != names_.end())
      result_.eos = found->second.content;
  }

  static void check_fast_files(const JsonNode& list) {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (list.item(i).text() != "tokenizer.json")
        list.item(i).fail("tokenizer.json alone (a file for one release of transformers is not supported)");
  }

  // add_bos_token and add_eos_token have no effect beside a tokenizer.json; one that contradicts it is named.
  void note_post_processor(const JsonNode& config) {
    const bool adds_nothing = !result_.tokenizer.is_object() ||
                              !result_.tokenizer.contains("post_processor") ||
                              result_.tokenizer["post_processor"].is_null();
    for (const char* key : {"add_bos_token", "add_eos_token"})
      if (adds_nothing && config.has(key) && config.at(key).value() == true)
        result_.remarks.push_back(
            str(config.where(), ": ", key,
                " is true, but tokenizer.json's post_processor adds no token, and counts (as in "
                "transformers 5)"));
  }

  TokenizerFolder& result_;
  std::map<std::string, AddedToken> names_;
  std::vector<AddedToken> others_, extra_;
  std::optional<std::map<std::int64_t, AddedToken>> decoder_;
};

}  // namespace

TokenizerFolder read_tokenizer_folder(const std::filesystem::path& folder) {
  FolderReader files(folder);
  if (!files.has("tokenizer.json"))
    throw UserError(str(folder.string(),
                        ": no tokenizer.json; a tokenizer.model or vocab.json + merges.txt must be converted "
                        "first (save_pretrained of transformers' fast tokenizer writes one)"));
  TokenizerFolder result;
  result.source = files.source("tokenizer.json");
  result.tokenizer = parse_json(files.text("tokenizer.json", kMaxTokenizerBytes), result.source);
  check_tokenizer_keys("tokenizer.json", JsonNode(result.tokenizer, result.source), result.remarks);
  NamedTokens(result).read(files);
  result.fingerprint = files.fingerprint();
  return result;
}

}  // namespace ithaca
