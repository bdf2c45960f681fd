// A conversation as the text that a chat model was trained on: what transformers' apply_chat_template gives
// for the model's own template (docs/chat_templates.md says what such a template may use).
#pragma once
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ithaca/text/jinja/budget.h"
#include "ithaca/text/jinja/json_value.h"
#include "ithaca/text/jinja/template.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca {

struct ChatMessage {
  std::string role;  // system, user, assistant, tool, ...
  std::string content;
};

struct ChatInput {
  // Bytes that are no UTF-8 become U+FFFD.
  static ChatInput of(const std::vector<ChatMessage>& conversation);

  jinja::Value messages;                          // a list of dicts, as from jinja::value_from_json
  jinja::Value tools = jinja::Value::none();      // a list of JSON schemas, or none
  jinja::Value documents = jinja::Value::none();  // a list of dicts, or none
  bool add_generation_prompt = false;             // end where the assistant's answer begins
  std::vector<std::pair<std::string, std::string>>
      special_tokens;  // bos_token and the like, with their texts
  std::vector<std::pair<std::string, jinja::Value>>
      variables;               // others (enable_thinking); they win over special tokens
  std::optional<std::tm> now;  // what strftime_now shows; this machine's clock if absent
};

struct RenderedChat {
  std::string text;  // special tokens are written out
  // What {% generation %} marks as said by the assistant, in bytes of the text; empty if the template marks
  // nothing.
  std::vector<jinja::Span> assistant;
};

class ChatTemplate {
 public:
  // `source` (a file's name) is named in errors. UserError if the text is no template, or uses what is not
  // supported.
  ChatTemplate(std::string_view text, const std::string& source);

  // UserError where transformers raises; if the template itself refuses the conversation, with its message.
  // Safe to call from several threads at once.
  RenderedChat render(const ChatInput& input, const jinja::Limits& limits = {}) const;

 private:
  std::string source_;
  jinja::Template template_;
};

}  // namespace ithaca
