// Chat templates: what is found in a folder, what a template sees, and what is refused. That the texts are right is
// in chat_template_golden_test.cpp.
#include "ithaca/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <thread>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/text/chat_templates.h"
#include "ithaca/text/jinja/builtins.h"

namespace ithaca {
namespace {

using jinja::Limits;
using jinja::Value;
using jinja::value_from_json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

ChatInput hello() {
  return ChatInput::of({{"user", "hello"}});
}

std::string render(const std::string& text, const ChatInput& input = hello(), const Limits& limits = {}) {
  return ChatTemplate(text, "chat_template.jinja").render(input, limits).text;
}

std::string error_of(const std::string& text, const ChatInput& input = hello(), const Limits& limits = {}) {
  try {
    return "no error, but the text " + render(text, input, limits);
  } catch (const UserError& error) {
    return error.what();
  }
}

TEST(ChatTemplate, ErrorsNameFileLineAndCause) {
  EXPECT_EQ(error_of("a\nb\n{{ 'x' | urlize }}"),
            "chat_template.jinja: line 3: the filter \"urlize\" is not supported");
  EXPECT_EQ(error_of("{{ 1 is prime }}"), "chat_template.jinja: line 1: the test \"prime\" is not supported");
  EXPECT_EQ(error_of("\n{{ 'x'.zfill(3) }}"),
            "chat_template.jinja: line 2: the method \"zfill\" of a str is not supported");
  EXPECT_EQ(error_of("{{ lipsum() }}"),
            "chat_template.jinja: line 1: the function \"lipsum\" is not supported");
  EXPECT_THAT(error_of("{% include 'other' %}"), HasSubstr("line 1: the tag {% include %} is not supported"));
  EXPECT_THAT(error_of("{{ messages.append(1) }}"),
              HasSubstr("access to attribute 'append' of 'list' object is unsafe"));
  EXPECT_THAT(error_of("{{ ''.__class__.__mro__ }}"), HasSubstr("has no attribute '__class__'"));
  EXPECT_THAT(error_of("{{ messages[0].content.bit_length() + 1 }}"),
              HasSubstr("has no attribute 'bit_length'"));
  EXPECT_THAT(error_of("{{ (1).real }}"), HasSubstr("the attribute \"real\" of a number is not supported"));
  EXPECT_THAT(error_of("{{ 9223372036854775807 + 1 }}"), HasSubstr("more than 64 bits"));
  EXPECT_THAT(error_of("{{ 99999999999999999999 }}"), HasSubstr("more than 64 bits"));
  EXPECT_THAT(error_of("{{ strftime_now('%Q') }}"), HasSubstr("\"%Q\" is not supported"));
  EXPECT_THAT(error_of("\xFF"), HasSubstr("not UTF-8"));
}

TEST(ChatTemplate, ATemplateRefusesAConversationInItsOwnWords) {
  EXPECT_EQ(error_of("\n{{ raise_exception('No role ' ~ messages[0].role) }}"),
            "chat_template.jinja: line 2: the template refuses the conversation: No role user");
}

TEST(ChatTemplate, MessagesToolsAndDocumentsAreListsOfObjects) {
  ChatInput input = hello();
  input.messages = value_from_json("[]", "m");
  EXPECT_THAT(error_of("x", input), HasSubstr("at least one message"));
  input.messages = value_from_json("[[1]]", "m");
  EXPECT_THAT(error_of("x", input), HasSubstr("messages[0] must be an object, found a list"));
  input = hello();
  input.tools = value_from_json("\"t\"", "t");
  EXPECT_THAT(error_of("x", input), HasSubstr("tools must be a list of objects, found a str"));
  input = hello();
  input.documents = value_from_json("[{}, 2]", "d");
  EXPECT_THAT(error_of("x", input), HasSubstr("documents[1] must be an object, found a int"));
}

TEST(ChatTemplate, KeysWithoutAValueAreNotThereAndReasoningHasEachOfItsNames) {
  ChatInput input = hello();
  input.messages = value_from_json(R"([{"role": "user", "content": null, "reasoning": "r"}])", "m");
  EXPECT_EQ(render("{{ messages[0] }}", input),
            "{'thinking': 'r', 'role': 'user', 'reasoning': 'r', 'reasoning_content': 'r'}");
}

TEST(ChatTemplate, VariablesWinOverSpecialTokensAndTheClockIsGiven) {
  ChatInput input = hello();
  input.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  input.variables = {{"eos_token", Value::string("E")},
                     {"deep", value_from_json("{\"b\": 1, \"a\": [null]}", "v")}};
  input.now = std::tm{};
  input.now->tm_year = 100;
  input.now->tm_mday = 1;
  EXPECT_EQ(render("{{ bos_token }}{{ eos_token }}{{ deep | tojson }}{{ strftime_now('%d %b %Y') }}", input),
            "<s>E{\"b\": 1, \"a\": [null]}01 Jan 2000");
}

TEST(ChatTemplate, GenerationMarksAreBytes) {
  const ChatTemplate chat(
      "{% for m in messages %}\u00fc{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% "
      "endgeneration %}{% endif "
      "%}{% endfor %}",
      "T");
  const RenderedChat rendered =
      chat.render(ChatInput::of({{"user", "a"}, {"assistant", "\u00e9b"}, {"assistant", "c"}}));
  EXPECT_EQ(rendered.text, "\u00fc\u00fc\u00e9b\u00fcc");
  ASSERT_EQ(rendered.assistant.size(), 2u);
  EXPECT_EQ(rendered.text.substr(rendered.assistant[0].begin,
                                 rendered.assistant[0].end - rendered.assistant[0].begin),
            "\u00e9b");
  EXPECT_EQ(rendered.assistant[1].begin, 9u);
  EXPECT_EQ(rendered.assistant[1].end, 10u);
}

TEST(ChatTemplate, EachBoundIsNamed) {
  EXPECT_THAT(error_of("{% for a in range(9999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                       hello(), {.steps = 100'000}),
              HasSubstr("more than the bound of 100000 steps"));
  EXPECT_THAT(
      error_of("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% "
               "endfor %}"),
      HasSubstr("above the bound of 16777216 bytes"));
  EXPECT_THAT(error_of("{{ 'x' * 99999999999 }}"), HasSubstr("above the bound of 16777216 bytes"));
  EXPECT_THAT(
      error_of("{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}", hello(), {.text_bytes = 1 << 20}),
      HasSubstr("above the bound of 1048576 bytes"));
  EXPECT_THAT(error_of("{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = ns.l + ['x'] "
                       "%}{% endfor %}"),
              HasSubstr("more than the bound of 536870912 bytes of texts and values"));
  EXPECT_THAT(error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
              HasSubstr("deeper than the bound of 1000 levels"));
  EXPECT_THAT(
      error_of("{% set ns = namespace(l=[]) %}{% for i in range(999) %}{% set ns.l = [ns.l] %}{% endfor %}"),
      HasSubstr("deeper than the bound of 200 levels"));
  EXPECT_THAT(error_of("{{ range(1000000) }}"), HasSubstr("longer than the bound of 100000"));
  EXPECT_THAT(error_of(std::string(std::size_t{2} << 20, 'x')), HasSubstr("the bound is 1048576"));
  for (const std::string open : {"(", "[", "{1:", "-", "not "})
    EXPECT_THAT(error_of("{{ " +
                         [&] {
                           std::string text;
                           for (int i = 0; i < 5000; ++i) text += open;
                           return text;
                         }() +
                         "1"),
                HasSubstr("deeper than the bound of 250 levels"))
        << open;
  for (const std::string link : {"+1", "|upper", ".a", "[0]", "()", " if 1"})
    EXPECT_THAT(error_of("{{ x" +
                         [&] {
                           std::string text;
                           for (int i = 0; i < 5000; ++i) text += link;
                           return text;
                         }() +
                         " }}"),
                HasSubstr("deeper than the bound of 250 levels"))
        << link;
  std::string ifs;
  for (int i = 0; i < 5000; ++i) ifs += "{% if 1 %}";
  EXPECT_THAT(error_of(ifs), HasSubstr("deeper than the bound of 250 levels"));
}

TEST(ChatTemplate, ValuesThatShareTheirPartsAreNotWrittenForEver) {
  // 2^60 elements, of which 60 are in memory
  const std::string doubled =
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}";
  const Limits limits{.steps = 1'000'000};
  EXPECT_THAT(error_of(doubled + "{{ ns.l | tojson }}", hello(), limits), HasSubstr("bound of"));
  EXPECT_THAT(error_of(doubled + "{{ ns.l }}", hello(), limits), HasSubstr("bound of"));
  EXPECT_THAT(error_of(doubled + "{{ ns.l == [ns.l[0], ns.l[1]] }}", hello(), limits), HasSubstr("bound of"));
  EXPECT_THAT(error_of("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"), HasSubstr("bound of"));
}

TEST(ChatTemplate, WorkIsLinearInTheConversation) {
  const ChatTemplate chat(
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content | trim).split('</think>')[-1] "
      "+ "
      "'<|im_end|>\\n' }}{% endfor %}",
      "T");
  for (const std::size_t count : {50u, 500u, 5000u}) {
    const ChatInput input = ChatInput::of(std::vector<ChatMessage>(count, {"user", std::string(2000, 'x')}));
    const auto a_message = static_cast<std::int64_t>(1300 * count);
    EXPECT_GT(chat.render(input, {.steps = a_message}).text.size(), count * 2000);
  }
}

TEST(ChatTemplate, ManyThreadsRenderAtOnce) {
  const ChatTemplate chat(
      "{% set ns = namespace(n=0) %}{% for i in range(50) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
      "T");
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (std::string& text : texts) threads.emplace_back([&] { text = chat.render(hello()).text; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(texts, testing::Each("1225"));
}

TEST(ChatTemplate, JsonKeepsItsOrderAndIsRefusedByName) {
  const auto error = [](const std::string& text) -> std::string {
    try {
      value_from_json(text, "row 3");
    } catch (const UserError& problem) {
      return problem.what();
    }
    return "no error";
  };
  const Value value = value_from_json(R"({"z": 1, "a": [true, null, -2.5], "z": 3})", "row 3");
  EXPECT_EQ(value.as<jinja::Dict>().entries()[0].first.text(), "z");
  EXPECT_EQ(value.as<jinja::Dict>().entries()[0].second.as_integer(), 3);
  EXPECT_THAT(error("{\"a\": }"), HasSubstr("row 3: not valid JSON"));
  EXPECT_THAT(error("[18446744073709551615]"),
              HasSubstr("the integer 18446744073709551615 needs more than 64 bits"));
  EXPECT_THAT(error("[123456789012345678901234567890]"), HasSubstr("needs more than 64 bits"));
  EXPECT_THAT(error(std::string(100'000, '[')), HasSubstr("nested deeper than 200 levels"));
}

// The names in the row of docs/chat_templates.md that begins so.
std::set<std::string> documented(const std::string& row) {
  const std::string docs =
      read_file(std::filesystem::path(ITHACA_SOURCE_DIR) / "docs/chat_templates.md", std::size_t{1} << 20);
  const std::size_t begin = docs.find("| " + row + " |");
  EXPECT_NE(begin, std::string::npos) << row;
  std::istringstream words(docs.substr(begin, docs.find('\n', begin) - begin));
  std::set<std::string> names;
  for (std::string word; words >> word;) {
    std::erase_if(word, [](char c) { return c == '`' || c == ',' || c == ';'; });
    names.insert(word);
  }
  return names;
}

// Of all that Jinja and Python have, the documentation names what is here and nothing else.
TEST(ChatTemplate, TheDocumentationNamesWhatIsSupported) {
  const std::vector<std::string> filters{
      "abs",       "attr",       "batch",       "capitalize", "center",  "count",
      "d",         "default",    "dictsort",    "e",          "escape",  "filesizeformat",
      "first",     "float",      "forceescape", "format",     "groupby", "indent",
      "int",       "join",       "last",        "length",     "list",    "lower",
      "items",     "map",        "min",         "max",        "pprint",  "random",
      "reject",    "rejectattr", "replace",     "reverse",    "round",   "safe",
      "select",    "selectattr", "slice",       "sort",       "string",  "striptags",
      "sum",       "title",      "trim",        "truncate",   "unique",  "upper",
      "urlencode", "urlize",     "wordcount",   "wordwrap",   "xmlattr", "tojson"};
  const std::vector<std::string> tests{
      "odd",     "even",   "divisibleby", "defined",  "undefined", "filter", "test",    "none",
      "boolean", "false",  "true",        "integer",  "float",     "lower",  "upper",   "string",
      "mapping", "number", "sequence",    "iterable", "callable",  "sameas", "escaped", "in"};
  const std::vector<std::string> methods{
      "capitalize", "casefold",     "center",       "count",   "encode",     "endswith",    "expandtabs",
      "find",       "format",       "format_map",   "index",   "isalnum",    "isalpha",     "isascii",
      "isdecimal",  "isdigit",      "isidentifier", "islower", "isnumeric",  "isprintable", "isspace",
      "istitle",    "isupper",      "join",         "ljust",   "lower",      "lstrip",      "maketrans",
      "partition",  "removeprefix", "removesuffix", "replace", "rfind",      "rindex",      "rjust",
      "rpartition", "rsplit",       "rstrip",       "split",   "splitlines", "startswith",  "strip",
      "swapcase",   "title",        "translate",    "upper",   "zfill"};
  std::set<std::string> named = documented("filters");
  for (const std::string& name : filters)
    EXPECT_EQ(jinja::find_filter(name) != nullptr, named.count(name) > 0) << "filter " << name;
  named = documented("tests");
  for (const std::string& name : tests)
    EXPECT_EQ(jinja::find_test(name) != nullptr, named.count(name) > 0) << "test " << name;
  named = documented("methods of strings");
  for (const std::string& name : methods) {
    const jinja::Method* method = jinja::find_text_method(name);
    ASSERT_TRUE(method) << "a method that Python has is unknown, not refused: " << name;
    EXPECT_EQ(method->call != nullptr, named.count(name) > 0) << "method " << name;
  }
}

class ChatTemplatesInFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() /
             ("chat_templates_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder / "additional_chat_templates");
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::string chosen(bool with_tools = false, const std::string& name = "") const {
    try {
      return ChatTemplates::from_folder(folder).choose(with_tools, name).render(hello()).text;
    } catch (const UserError& error) {
      return error.what();
    }
  }
  std::filesystem::path folder;
};

TEST_F(ChatTemplatesInFolder, TheConfigsTextListOrObject) {
  EXPECT_THAT(chosen(), HasSubstr("no chat template"));
  write_file(folder / "tokenizer_config.json", R"({"chat_template": "C"})");
  EXPECT_EQ(chosen(), "C");
  EXPECT_EQ(chosen(true), "C");
  write_file(
      folder / "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})");
  EXPECT_EQ(chosen(), "D");
  EXPECT_EQ(chosen(true), "T");
  EXPECT_THAT(chosen(false, "rag"),
              HasSubstr("no chat template is named \"rag\"; there are: default, tool_use"));
  write_file(folder / "tokenizer_config.json", R"({"chat_template": {"rag": "R"}})");
  EXPECT_EQ(chosen(false, "rag"), "R");
  EXPECT_THAT(chosen(), HasSubstr("no chat template is named \"default\"; there are: rag"));
  write_file(folder / "tokenizer_config.json", R"({"chat_template": 3})");
  EXPECT_THAT(chosen(), HasSubstr("tokenizer_config.json.chat_template: expected an array, found 3"));
}

TEST_F(ChatTemplatesInFolder, FilesStandInPlaceOfTheConfigs) {
  write_file(
      folder / "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})");
  write_file(folder / "chat_template.jinja", "J{{ bad");
  EXPECT_THAT(chosen(), HasSubstr("chat_template.jinja: line 1: "));
  write_file(folder / "chat_template.jinja", "J\n");
  EXPECT_EQ(chosen(), "J");
  EXPECT_EQ(chosen(true), "J");
  write_file(folder / "additional_chat_templates/tool_use.jinja", "A");
  write_file(folder / "additional_chat_templates/notes.txt", "not a template");
  EXPECT_EQ(chosen(), "J");
  EXPECT_EQ(chosen(true), "A");
  EXPECT_THAT(ChatTemplates::from_folder(folder).names(), ElementsAre("default", "tool_use"));
}

TEST_F(ChatTemplatesInFolder, NamedTokensAreFoundAsTransformersFindsThem) {
  write_file(
      folder / "tokenizer_config.json",
      R"({"bos_token": "<b>", "eos_token": {"__type": "AddedToken", "content": "<e>"}, "pad_token": null,
                 "image_token": "<i>", "add_bos_token": true, "extra_special_tokens": {"audio_token": "<a>"}})");
  EXPECT_THAT(ChatTemplates::from_folder(folder).special_tokens(),
              ElementsAre(Pair("audio_token", "<a>"), Pair("bos_token", "<b>"), Pair("eos_token", "<e>"),
                          Pair("image_token", "<i>")));
  // The older file wins, unless the config lists the added tokens itself.
  write_file(folder / "special_tokens_map.json", R"({"bos_token": {"content": "<old>"}})");
  EXPECT_THAT(ChatTemplates::from_folder(folder).special_tokens(),
              testing::Contains(Pair("bos_token", "<old>")));
  write_file(folder / "tokenizer_config.json", R"({"bos_token": "<b>", "added_tokens_decoder": {}})");
  EXPECT_THAT(ChatTemplates::from_folder(folder).special_tokens(), ElementsAre(Pair("bos_token", "<b>")));
  write_file(folder / "tokenizer_config.json", R"({"bos_token": 3})");
  EXPECT_THAT(chosen(), HasSubstr("tokenizer_config.json.bos_token: expected a string, found 3"));
}

}  // namespace
}  // namespace ithaca
