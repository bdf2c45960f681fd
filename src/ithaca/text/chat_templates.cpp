#include "ithaca/text/chat_templates.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/text/json_node.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxTemplateBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxTemplates = 100;

using Texts = std::map<std::string, std::string>;

// A token is its text, or an object with it under "content"; null: there is none.
void add_token(Texts& tokens, const JsonNode& config, const std::string& name) {
  const JsonNode token(config.value().at(name), config.where() + "." + name);
  if (token.is_null())
    tokens.erase(name);
  else
    tokens[name] = token.value().is_object() ? token.text("content") : token.text();
}

// The seven that every tokenizer may have, and others whose name says what they are.
void add_named_tokens(Texts& tokens, const JsonNode& config) {
  static constexpr std::string_view kStandard[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                   "pad_token", "cls_token", "mask_token"};
  for (const auto& [name, value] : config.value().items()) {
    const bool is_standard =
        std::find(std::begin(kStandard), std::end(kStandard), name) != std::end(kStandard);
    const bool has_text = value.is_string() || (value.is_object() && value.contains("content"));
    if (is_standard || (name.ends_with("_token") && has_text)) add_token(tokens, config, name);
  }
  if (!config.has("extra_special_tokens")) return;
  const JsonNode extra = config.at("extra_special_tokens");
  if (!extra.value().is_object()) return;  // a list gives them no names
  for (const auto& [name, value] : extra.value().items()) add_token(tokens, extra, name);
}

Json read_object(const fs::path& path) {
  Json json = read_json_file(path, kMaxConfigBytes);
  if (!json.is_object()) throw UserError(path.string() + ": expected an object");
  return json;
}

std::string read_template(const fs::path& path) {
  return read_file(path, kMaxTemplateBytes);
}

// Texts by name out of tokenizer_config.json's chat_template.
Texts templates_of(const JsonNode& node) {
  Texts texts;
  if (node.value().is_string()) {
    texts["default"] = node.text();
  } else if (node.value().is_object()) {
    for (const auto& [name, value] : node.value().items()) texts[name] = node.text(name);
  } else {
    for (std::size_t i = 0; i < node.size(); ++i)
      texts[node.item(i).text("name")] = node.item(i).text("template");
  }
  return texts;
}

std::vector<fs::path> additional_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator at(folder / "additional_chat_templates", error), end; !error && at != end;
       at.increment(error)) {
    if (at->path().extension() != ".jinja") continue;
    files.push_back(at->path());
    if (files.size() > kMaxTemplates)
      throw UserError(
          str((folder / "additional_chat_templates").string(), ": more than ", kMaxTemplates, " templates"));
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

ChatTemplates ChatTemplates::from_folder(const fs::path& folder) {
  ChatTemplates found;
  found.folder_ = folder.string();
  if (fs::exists(folder / "chat_template.jinja")) {
    const fs::path path = folder / "chat_template.jinja";
    found.templates_["default"] = {read_template(path), path.string()};
  }
  for (const fs::path& path : additional_files(folder))
    found.templates_[path.stem().string()] = {read_template(path), path.string()};
  Texts tokens;
  const fs::path config_path = folder / "tokenizer_config.json",
                 map_path = folder / "special_tokens_map.json";
  const Json config_json = fs::exists(config_path) ? read_object(config_path) : Json::object();
  const JsonNode config(config_json, config_path.string());
  if (found.templates_.empty() && config.has("chat_template")) {
    const JsonNode node = config.at("chat_template");
    for (auto& [name, text] : templates_of(node)) found.templates_[name] = {text, node.where()};
  }
  add_named_tokens(tokens, config);
  // The older file counts only beside a tokenizer_config.json that does not list the added tokens itself.
  if (!config.has("added_tokens_decoder") && fs::exists(map_path)) {
    const Json map_json = read_object(map_path);
    add_named_tokens(tokens, JsonNode(map_json, map_path.string()));
  }
  found.special_tokens_.assign(tokens.begin(), tokens.end());
  return found;
}

std::vector<std::string> ChatTemplates::names() const {
  std::vector<std::string> names;
  for (const auto& [name, source] : templates_) names.push_back(name);
  return names;
}

ChatTemplate ChatTemplates::choose(bool with_tools, const std::string& name) const {
  if (templates_.empty())
    throw UserError(
        str(folder_,
            ": no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); write "
            "the prompt out with its special tokens and generate without one"));
  const std::string wanted = !name.empty()                                    ? name
                             : with_tools && templates_.count("tool_use") > 0 ? "tool_use"
                                                                              : "default";
  const auto at = templates_.find(wanted);
  if (at == templates_.end())
    throw UserError(
        str(folder_, ": no chat template is named \"", wanted, "\"; there are: ", joined(names())));
  return ChatTemplate(at->second.text, at->second.where);
}

}  // namespace ithaca
