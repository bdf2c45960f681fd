#include "ithaca/text/chat_template.h"

#include <array>

#include "ithaca/base/error.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

using jinja::Dict;
using jinja::Kind;
using jinja::Value;
using jinja::Values;

void require_dicts(const std::string& source, std::string_view what, const Value& list) {
  if (!list.is(Kind::kList))
    throw UserError(str(source, ": ", what, " must be a list of objects, found a ", jinja::type_name(list)));
  for (std::size_t i = 0; i < list.items().size(); ++i)
    if (!list.items()[i].is(Kind::kDict))
      throw UserError(str(source, ": ", what, "[", i, "] must be an object, found a ",
                          jinja::type_name(list.items()[i])));
}

// A message as transformers shows it to a template: keys without a value are not there, and reasoning is found
// under each of the names that are in use.
Value shown_message(const Dict& message) {
  static constexpr std::array<std::string_view, 3> kReasoning{"reasoning_content", "thinking", "reasoning"};
  const Value* reasoning = nullptr;
  for (const std::string_view name : kReasoning) {
    const Value* value = reasoning ? nullptr : message.find(name);
    if (value && !value->is(Kind::kNone)) reasoning = value;
  }
  std::vector<Dict::Entry> entries;
  if (reasoning) entries.emplace_back(Value::string("thinking"), *reasoning);
  for (const Dict::Entry& entry : message.entries())
    if (!entry.second.is(Kind::kNone)) entries.push_back(entry);
  if (reasoning) entries.emplace_back(Value::string("reasoning_content"), *reasoning);
  return Value::dict(std::move(entries));
}

Value shown_messages(const std::string& source, const Value& messages) {
  require_dicts(source, "messages", messages);
  if (messages.items().empty()) throw UserError(source + ": a conversation needs at least one message");
  Values shown;
  for (const Value& message : messages.items()) shown.push_back(shown_message(message.as<Dict>()));
  return Value::list(std::move(shown));
}

std::tm local_time() {
  const std::time_t seconds = std::time(nullptr);
  std::tm now{};
  localtime_r(&seconds, &now);
  return now;
}

}  // namespace

ChatInput ChatInput::of(const std::vector<ChatMessage>& conversation) {
  Values list;
  for (const ChatMessage& message : conversation)
    list.push_back(Value::dict({{Value::string("role"), Value::string(to_valid_utf8(message.role))},
                                {Value::string("content"), Value::string(to_valid_utf8(message.content))}}));
  ChatInput input;
  input.messages = Value::list(std::move(list));
  return input;
}

ChatTemplate::ChatTemplate(std::string_view text, const std::string& source)
    : source_(source), template_(text, source) {}

RenderedChat ChatTemplate::render(const ChatInput& input, const jinja::Limits& limits) const {
  if (!input.tools.is(Kind::kNone)) require_dicts(source_, "tools", input.tools);
  if (!input.documents.is(Kind::kNone)) require_dicts(source_, "documents", input.documents);
  jinja::Context context;
  context.emplace("messages", shown_messages(source_, input.messages));
  context.emplace("tools", input.tools);
  context.emplace("documents", input.documents);
  context.emplace("add_generation_prompt", Value::boolean(input.add_generation_prompt));
  for (const auto& [name, value] : input.variables) context.emplace(name, value);
  for (const auto& [name, text] : input.special_tokens) context.emplace(name, Value::string(text));
  jinja::Rendered rendered =
      template_.render(std::move(context), input.now ? *input.now : local_time(), limits);
  return {std::move(rendered.text), std::move(rendered.generation)};
}

}  // namespace ithaca
