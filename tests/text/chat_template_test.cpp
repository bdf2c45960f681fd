// Chat forms against what transformers' apply_chat_template(add_generation_prompt=True) prints for the same
// templates.
#include "ithaca/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja_text.h"

namespace ithaca {
namespace {

const std::string kChatMl =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
    "'<|im_start|>system\n"
    "You row.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const std::string kLlama3 =
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n'+ "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + "
    "content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
const std::string kMistral =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
    "message['content'] + "
    "' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% "
    "endfor %}";
const std::string kLlama2 =
    "{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}{% set content = "
    "'<<SYS>>\\n' + "
    "system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = "
    "message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif "
    "message['role'] == "
    "'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
const std::string kDeepSeek =
    "{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' "
    "%}{{'<｜User｜>' + "
    "message['content']}}{%- else %}{{'<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- "
    "endif %}{%- endfor -%}"
    "{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜>'}}{% endif %}";

const std::vector<ChatMessage> kShort{{"user", "hi"}};
const std::vector<ChatMessage> kLong{
    {"system", " Be brief. "}, {"user", "a"}, {"assistant", " b "}, {"user", "c\n"}};

std::string apply(const std::string& form, const std::vector<ChatMessage>& messages) {
  return apply_chat_template(form, messages, "<B>", "<E>");
}

TEST(ChatTemplate, ChatMl) {
  EXPECT_EQ(
      apply(kChatMl, kShort),
      "<|im_start|>system\nYou row.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(
      apply(kChatMl, kLong),
      "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n b "
      "<|im_end|>\n<|im_start|>user\nc\n<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, Llama3) {
  EXPECT_EQ(apply(kLlama3, kLong),
            "<B><|start_header_id|>system<|end_header_id|>\n\nBe "
            "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\na"
            "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|><|start_header_id|>user<|"
            "end_header_id|>\n\nc"
            "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(ChatTemplate, Llama2) {
  EXPECT_EQ(apply(kLlama2, kLong),
            "<B>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\na [/INST] b <E><B>[INST] c [/INST]");
}

TEST(ChatTemplate, Mistral) {
  EXPECT_EQ(apply(kMistral, {{"user", "a"}, {"assistant", "b"}, {"user", "c"}}),
            "<B>[INST] a [/INST]b<E>[INST] c [/INST]");
  EXPECT_THROW(apply(kMistral, kLong), UserError);
}

TEST(ChatTemplate, DeepSeek) {
  EXPECT_EQ(apply(kDeepSeek, kLong),
            "<B> Be brief. <｜User｜>a<｜Assistant｜> b <｜end▁of▁sentence｜><｜User｜>c\n<｜Assistant｜>");
}

TEST(ChatTemplate, RefusesWhatItDoesNotKnow) {
  auto error_of = [](const std::string& form, const std::vector<ChatMessage>& messages) -> std::string {
    try {
      apply(form, messages);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(error_of("", kShort), testing::HasSubstr("no chat template"));
  EXPECT_THAT(error_of("{{ messages }}", kShort),
              testing::HasSubstr("known: ChatML, Llama-2, Llama-3, Mistral, DeepSeek"));
  EXPECT_THAT(error_of(kChatMl + "{{ strftime_now('%d') }}", kShort), testing::HasSubstr("no known form"));
  EXPECT_THAT(error_of(kChatMl + "{{ 'x' }}", kShort), testing::HasSubstr("no known form"));
  EXPECT_THAT(error_of(kChatMl, {}), testing::HasSubstr("last message"));
  EXPECT_THAT(error_of(kChatMl, {{"user", "a"}, {"assistant", "b"}}), testing::HasSubstr("last message"));
  EXPECT_THAT(error_of(kChatMl, {{"tool", "a"}, {"user", "b"}}), testing::HasSubstr("role \"tool\""));
  EXPECT_THAT(error_of(kMistral, {{"user", "a"}, {"user", "b"}}), testing::HasSubstr("take turns"));
}

TEST(JinjaText, WritesOneFormOneWay) {
  EXPECT_EQ(canonical_jinja("{# note #}{%- if  a %}\n  {{- m[\"role\"] + \"\n\" -}}  \n x\n{% endif -%} \n"),
            "{%ifa%}{{m.role+'\\n'}}x\\n{%endif%}");
}

}  // namespace
}  // namespace ithaca
