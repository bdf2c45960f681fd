// The chat templates that a model's folder holds, found as transformers 5.23 finds them.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ithaca/text/chat_template.h"

namespace ithaca {

class ChatTemplates {
 public:
  // chat_template.jinja (named "default") and additional_chat_templates/NAME.jinja; only where neither is
  // there, `chat_template` of tokenizer_config.json: a text ("default"), a list of {name, template}, or an
  // object of texts. UserError names the file and key.
  static ChatTemplates from_folder(const std::filesystem::path& folder);

  bool empty() const { return templates_.empty(); }
  std::vector<std::string> names() const;

  // Parsed: the one of this name; without a name "tool_use" for a conversation with tools, if there is one,
  // else "default". UserError lists the names if there is none such.
  ChatTemplate choose(bool with_tools = false, const std::string& name = "") const;

  // For ChatInput: bos_token, eos_token and the other tokens that tokenizer_config.json and
  // special_tokens_map.json name, with their texts.
  const std::vector<std::pair<std::string, std::string>>& special_tokens() const { return special_tokens_; }

 private:
  struct Source {
    std::string text, where;
  };
  std::string folder_;
  std::map<std::string, Source> templates_;
  std::vector<std::pair<std::string, std::string>> special_tokens_;
};

}  // namespace ithaca
