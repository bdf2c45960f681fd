// Chat prompts. Templates are recognised, not run: a Jinja program from a stranger's file is never executed
// here. The known forms are ChatML (SmolLM2, Qwen2/3), Llama-2, Llama-3, Mistral and DeepSeek; another one is
// refused by name, saying what to do.
#pragma once
#include <string>
#include <vector>

namespace ithaca {

struct ChatMessage {
  std::string role;  // system | user | assistant
  std::string content;
};

// The text to tokenise (special tokens written out), ending where the assistant's answer starts.
// `chat_template` is the Jinja text of the model's folder; bos_token and eos_token are its special tokens'
// texts. UserError if the template is empty or not of a known form.
std::string apply_chat_template(const std::string& chat_template, const std::vector<ChatMessage>& messages,
                                const std::string& bos_token, const std::string& eos_token);

}  // namespace ithaca
