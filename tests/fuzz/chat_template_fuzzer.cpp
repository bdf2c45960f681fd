// Bytes of a stranger as a chat template and a conversation: they are refused with a UserError, or there is a
// text within the bounds. The first zero byte ends the template; behind it is the conversation in JSON (a fixed one
// if there is none).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/text/chat_template.h"
#include "ithaca/text/unicode.h"

namespace {

constexpr std::string_view kConversation =
    R"([{"role": "system", "content": "S"}, {"role": "user", "content": "h\u00e9 </think> x"},
        {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls":
         [{"id": "1", "function": {"name": "f", "arguments": {"a": [1, 2.5, null, true]}}}]},
        {"role": "tool", "content": [{"type": "text", "text": "t"}]}, {"role": "user", "content": "q"}])";
constexpr std::string_view kTools =
    R"([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object",
        "properties": {"a": {"type": "array"}}, "required": ["a"]}}}])";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t end = bytes.find('\0');
  const bool has_conversation = end != std::string_view::npos;
  constexpr ithaca::jinja::Limits kLimits{
      .steps = 200'000, .text_bytes = std::size_t{1} << 20, .total_bytes = std::size_t{64} << 20};
  try {
    const ithaca::ChatTemplate chat(bytes.substr(0, end), "fuzz");
    ithaca::ChatInput input;
    input.messages =
        ithaca::jinja::value_from_json(has_conversation ? bytes.substr(end + 1) : kConversation, "fuzz");
    input.tools = ithaca::jinja::value_from_json(kTools, "tools");
    input.add_generation_prompt = size % 2 == 0;
    input.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    const ithaca::RenderedChat rendered = chat.render(input, kLimits);
    if (rendered.text.size() > kLimits.text_bytes || !ithaca::is_valid_utf8(rendered.text)) std::abort();
    for (const ithaca::jinja::Span& span : rendered.assistant)
      if (span.begin > span.end) std::abort();
  } catch (const ithaca::UserError&) {
    return 0;
  }
  return 0;
}
