#include "ithaca/text/chat_template.h"

#include <algorithm>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja_text.h"

namespace ithaca {
namespace {

struct Conversation {
  const std::vector<ChatMessage>& messages;
  std::string_view form;  // the canonical template
  std::string bos, eos;
};

std::string trim(const std::string& text) {
  constexpr const char* kSpace = " \t\n\r\f\v";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

bool has(std::string_view form, std::string_view part) {
  return form.find(part) != std::string_view::npos;
}

// An answer's thinking part, which DeepSeek's and Qwen's templates leave out of the history.
std::string behind_thinking(const std::string& content, bool first_mark = false) {
  const std::size_t mark = first_mark ? content.find("</think>") : content.rfind("</think>");
  return mark == std::string::npos ? content : content.substr(mark + 8);
}

// A Jinja literal's text.
std::string unescape(std::string_view literal) {
  std::string out;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] == '\\' && ++i < literal.size())
      out += literal[i] == 'n' ? '\n' : literal[i] == 't' ? '\t' : literal[i];
    else
      out += literal[i];
  }
  return out;
}

// The literal that a template prints as the system message of a conversation without one; empty if it prints
// none.
std::string default_system(std::string_view form) {
  static constexpr std::string_view kStart = "<|im_start|>system\\n", kEnd = "<|im_end|>";
  for (std::size_t at = 0; (at = form.find(kStart, at)) != std::string_view::npos;) {
    at += kStart.size();
    const std::size_t end = form.find(kEnd, at);
    if (end == std::string_view::npos) break;
    const std::string_view text = form.substr(at, end - at);
    if (!text.empty() && !has(text, "'")) return unescape(text);
  }
  return "";
}

std::string render_chatml(const Conversation& chat) {
  std::string out;
  const std::string system = default_system(chat.form);
  if (!system.empty() && chat.messages[0].role != "system")
    out += "<|im_start|>system\n" + system + "<|im_end|>\n";
  const bool drops_thinking = has(chat.form, "content.split('</think>')[-1].lstrip('\\n')");
  for (const ChatMessage& message : chat.messages) {
    std::string content = message.content;
    if (drops_thinking && message.role == "assistant" && has(content, "</think>")) {
      content = behind_thinking(content);
      content.erase(0, std::min(content.find_first_not_of('\n'), content.size()));
    }
    out += "<|im_start|>" + message.role + "\n" + content + "<|im_end|>\n";
  }
  out += "<|im_start|>assistant\n";
  return out;
}

std::string render_llama2(const Conversation& chat) {
  std::string out;
  std::string system;
  for (const ChatMessage& message : chat.messages) {
    if (message.role == "system") {
      system = "<<SYS>>\n" + message.content + "\n<</SYS>>\n\n";
    } else if (message.role == "user") {
      out += chat.bos + "[INST] " + trim(system + message.content) + " [/INST]";
      system.clear();
    } else {
      out += " " + trim(message.content) + " " + chat.eos;
    }
  }
  return out;
}

std::string render_llama3(const Conversation& chat) {
  auto block = [](const std::string& role, const std::string& content) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + content + "<|eot_id|>";
  };
  std::string out = chat.bos;
  std::size_t first = 0;
  if (has(chat.form, "'Cutting Knowledge Date: December 2023\\n'")) {  // Llama 3.1 and 3.3
    std::string system = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
    if (chat.messages[0].role == "system") system += trim(chat.messages[first++].content);
    out += block("system", system);
  }
  for (std::size_t i = first; i < chat.messages.size(); ++i)
    out += block(chat.messages[i].role, trim(chat.messages[i].content));
  return out + "<|start_header_id|>assistant<|end_header_id|>\n\n";
}

std::string render_mistral(const Conversation& chat) {
  std::string out = chat.bos;
  const std::string_view behind_answer = has(chat.form, "message.content+eos_token+' '") ? " " : "";
  for (const ChatMessage& message : chat.messages) {
    if (message.role == "system")
      throw UserError(
          "the chat template of this Mistral model has no system role; put its text into the first user "
          "message");
    if (message.role == "user")
      out += "[INST] " + message.content + " [/INST]";
    else
      out.append(message.content).append(chat.eos).append(behind_answer);
  }
  return out;
}

std::string render_deepseek_v2(const Conversation& chat) {
  std::string out = chat.bos;
  for (const ChatMessage& message : chat.messages) {
    if (message.role == "user")
      out += "User: " + message.content + "\n\n";
    else if (message.role == "assistant")
      out += "Assistant: " + message.content + chat.eos;
    else
      out += message.content + "\n\n";
  }
  return out + "Assistant:";
}

std::string render_deepseek_v3(const Conversation& chat) {
  constexpr std::string_view kUser = "<｜User｜>", kAssistant = "<｜Assistant｜>",
                             kEnd = "<｜end▁of▁sentence｜>";
  const bool without_thinking =
      has(chat.form, "{{'<｜Assistant｜>'}}{%ifnotthinking%}{{'</think>'}}");    // V3.1
  const bool with_thinking = has(chat.form, "{{'<｜Assistant｜><think>\\n'}}");  // R1
  const bool from_first = has(chat.form, "content.split('</think>',1)[1]");
  const bool drops_thinking = from_first || has(chat.form, "content.split('</think>')[-1]");
  std::string out = chat.bos;
  if (chat.messages[0].role == "system") out += chat.messages[0].content;
  for (const ChatMessage& message : chat.messages) {
    if (message.role == "user") out.append(kUser).append(message.content);
    if (message.role != "assistant") continue;
    out.append(kAssistant).append(without_thinking ? "</think>" : "");
    out.append(drops_thinking ? behind_thinking(message.content, from_first) : message.content).append(kEnd);
  }
  return out.append(kAssistant).append(without_thinking ? "</think>" : with_thinking ? "<think>\n" : "");
}

struct Form {
  std::string_view name;
  std::vector<std::string_view> parts;  // all of them stand in the canonical template
  std::vector<std::string_view>
      endings;  // it ends with one of them (what a generation prompt adds); none: no matter
  std::string (*render)(const Conversation&);
  bool alternates;  // user and assistant must take turns
};

const std::vector<Form>& forms() {
  static const std::vector<Form> kForms{
      {"ChatML",
       {"<|im_start|>", "+message.role+'\\n'+"},
       {"{%ifadd_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%endif%}",
        "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%ifenable_thinkingisdefinedandenable_"
        "thinkingisfalse%}{{'<think>\\n\\n</"
        "think>\\n\\n'}}{%endif%}{%endif%}"},
       &render_chatml,
       false},
      {"Llama-2",
       {"bos_token+'[INST] '+content.strip()+' [/INST]'", "' '+content.strip()+' '+eos_token",
        "'<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message.content"},
       {"{%endif%}{%endfor%}"},
       &render_llama2,
       true},
      {"Llama-3",
       {"'<|start_header_id|>'+message.role+'<|end_header_id|>\\n\\n'+message.content|trim+'<|eot_id|>'"},
       {"{%ifadd_generation_prompt%}{{'<|start_header_id|>assistant<|end_header_id|>\\n\\n'}}{%endif%}"},
       &render_llama3,
       false},
      {"Mistral",
       {"{{bos_token}}{%formessageinmessages%}", "'[INST] '+message.content+' [/INST]'",
        "message.content+eos_token"},
       {"{%endif%}{%endfor%}"},
       &render_mistral,
       true},
      {"DeepSeek-V2",
       {"'User: '+message.content+'\\n\\n'", "'Assistant: '+message.content+eos_token"},
       {"{%ifadd_generation_prompt%}{{'Assistant:'}}{%endif%}"},
       &render_deepseek_v2,
       false},
      {"DeepSeek",
       {"{{'<｜User｜>'+message.content}}", "+'<｜end▁of▁sentence｜>'}}"},
       {"{%ifadd_generation_promptandnotns.is_tool%}{{'<｜Assistant｜>'}}{%endif%}",
        "{%ifadd_generation_promptandnotns.is_tool%}{{'<｜Assistant｜><think>\\n'}}{%endif%}",
        "{%ifadd_generation_promptandns.is_last_userandnotns.is_tool%}{{'<｜Assistant｜>'}}{%ifnotthinking%}{"
        "{'</think>'}}{%else%}{{'<think>'"
        "}}{%endif%}{%endif%}"},
       &render_deepseek_v3,
       true}};
  return kForms;
}

const Form* recognise(std::string_view form) {
  if (has(form, "strftime_now")) return nullptr;  // its text changes from day to day
  for (const Form& candidate : forms()) {
    bool fits = false;
    for (const std::string_view ending : candidate.endings) fits |= form.ends_with(ending);
    for (const std::string_view part : candidate.parts) fits &= has(form, part);
    if (fits) return &candidate;
  }
  return nullptr;
}

void check_messages(const std::vector<ChatMessage>& messages, const Form& form) {
  if (messages.empty() || messages.back().role != "user")
    throw UserError("chat template: the last message must be the user's, for the answer to follow it");
  std::size_t turn = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant")
      throw UserError(str("chat template: message ", i, " has the role \"", role,
                          "\"; expected system, user or assistant"));
    if (role == "system" && i > 0)
      throw UserError(str("chat template: message ", i, " is a system message; only the first may be one"));
    if (role != "system" && form.alternates && (role == "user") != (turn++ % 2 == 0))
      throw UserError(str("chat template: in the ", std::string(form.name),
                          " form user and assistant take turns, beginning with the "
                          "user; message ",
                          i, " breaks that"));
  }
}

}  // namespace

std::string apply_chat_template(const std::string& chat_template, const std::vector<ChatMessage>& messages,
                                const std::string& bos_token, const std::string& eos_token) {
  if (chat_template.empty())
    throw UserError(
        "the model's folder has no chat template (tokenizer_config.json: chat_template, or "
        "chat_template.jinja); "
        "write the prompt out and generate without one");
  const std::string form = canonical_jinja(chat_template);
  const Form* known = recognise(form);
  if (!known)
    throw UserError(
        str("the chat template is of no known form (known: ChatML, Llama-2, Llama-3, Mistral, DeepSeek); "
            "write the prompt "
            "out with its special tokens and generate without a template. It begins: ",
            chat_template.substr(0, 80)));
  check_messages(messages, *known);
  return known->render({messages, form, bos_token, eos_token});
}

}  // namespace ithaca
