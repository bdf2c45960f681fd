// Texts equal to those of transformers' apply_chat_template, for templates in the style of the models in use and
// for small ones, each for one thing of the language (tools/oracles/chat_template_goldens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/base/json.h"
#include "ithaca/text/chat_template.h"

namespace ithaca {
namespace {

using jinja::Value;

const std::filesystem::path kGolden = std::filesystem::path(ITHACA_SOURCE_DIR) / "tests/golden/text/chat";
constexpr std::size_t kMaxBytes = std::size_t{1} << 24;

std::string read_golden(const std::string& name) {
  return read_file(kGolden / name, kMaxBytes);
}

// 4 March 2025, a Tuesday, 17:08:09
std::tm march() {
  std::tm time{};
  time.tm_year = 125;
  time.tm_mon = 2;
  time.tm_mday = 4;
  time.tm_hour = 17;
  time.tm_min = 8;
  time.tm_sec = 9;
  time.tm_wday = 2;
  time.tm_yday = 62;
  return time;
}

const std::vector<std::pair<std::string, std::string>> kSpecial{
    {"bos_token", "<|bos|>"}, {"eos_token", "<|eos|>"}, {"pad_token", "<|pad|>"}};

ChatInput input_of(const Value& conversation) {
  const auto& entries = conversation.as<jinja::Dict>();
  ChatInput input;
  input.messages = *entries.find("messages");
  if (const Value* tools = entries.find("tools")) input.tools = *tools;
  if (const Value* documents = entries.find("documents")) input.documents = *documents;
  if (const Value* prompt = entries.find("add_generation_prompt"))
    input.add_generation_prompt = prompt->as_integer() != 0;
  if (const Value* variables = entries.find("variables"))
    for (const auto& [name, value] : variables->as<jinja::Dict>().entries())
      input.variables.emplace_back(name.text(), value);
  input.special_tokens = kSpecial;
  input.now = march();
  return input;
}

std::string error_of(const std::string& text, const ChatInput& input) {
  try {
    const ChatTemplate chat(text, "T");
    return "no error, but the text " + chat.render(input).text;
  } catch (const UserError& error) {
    return error.what();
  }
}

std::vector<std::vector<std::size_t>> spans_of(const RenderedChat& rendered) {
  std::vector<std::vector<std::size_t>> spans;
  for (const jinja::Span& span : rendered.assistant) spans.push_back({span.begin, span.end});
  return spans;
}

void expect_outcome(const std::string& text, const ChatInput& input, const Json& outcome) {
  if (outcome.contains("raises")) {
    const std::string message = outcome.at("raises").get<std::string>();
    EXPECT_THAT(error_of(text, input), testing::EndsWith("refuses the conversation: " + message));
    return;
  }
  if (outcome.contains("fails")) {
    EXPECT_THAT(error_of(text, input), testing::StartsWith("T: line "));
    return;
  }
  const RenderedChat rendered = ChatTemplate(text, "T").render(input);
  if (outcome.contains("text")) {
    EXPECT_EQ(rendered.text, outcome.at("text").get<std::string>());
  } else {
    Sha256 hash;
    hash.update(rendered.text);
    EXPECT_EQ(hash.hex(), outcome.at("sha256").get<std::string>()) << rendered.text;
  }
  const auto expected_spans = outcome.value("spans", std::vector<std::vector<std::size_t>>());
  EXPECT_EQ(spans_of(rendered), expected_spans);
}

TEST(ChatTemplateGolden, ConversationsInTheStyleOfEachFamily) {
  const Value file = jinja::value_from_json(read_golden("conversations.json"), "conversations.json");
  const auto& conversations = file.as<jinja::Dict>().find("conversations")->items();
  ASSERT_EQ(conversations.size(), 60u);
  const Json expected = read_json_file(kGolden / "expected.json");
  ASSERT_GE(expected.size(), 25u);
  for (const auto& [name, outcomes] : expected.items()) {
    const std::string text = read_golden("templates/" + name + ".jinja");
    ASSERT_EQ(outcomes.size(), conversations.size());
    for (std::size_t i = 0; i < conversations.size(); ++i) {
      SCOPED_TRACE(str(name, ", conversation ", i));
      ASSERT_NO_THROW(expect_outcome(text, input_of(conversations[i]), outcomes[i]));
    }
  }
}

TEST(ChatTemplateGolden, EachThingOfTheLanguage) {
  const Value file = jinja::value_from_json(read_golden("probes.json"), "probes.json");
  const ChatInput input = input_of(*file.as<jinja::Dict>().find("context"));
  const Json probes = read_json_file(kGolden / "probes.json").at("probes");
  ASSERT_GE(probes.size(), 300u);
  for (const Json& probe : probes) {
    const auto text = probe.at("template").get<std::string>();
    SCOPED_TRACE(text);
    ASSERT_NO_THROW(expect_outcome(text, input, probe));
  }
}

}  // namespace
}  // namespace ithaca
