// ithaca generate with the model's chat template, as a user calls it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/run_program.h"
#include "tests/support/tiny_folder.h"

namespace ithaca::testing_program {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ChatTemplateProcess : public testing::Test {
 protected:
  void SetUp() override {
    const Result trained =
        run_program({ITHACA_PROGRAM, "train", "--model_name_or_path", folder_.path("model"),
                     "--train_from_scratch", "--train_file", folder_.path("train.txt"), "--output_dir",
                     folder_.path("out"), "--cutoff_len", "31", "--max_steps", "2", "--learning_rate", "0.01",
                     "--cache_dir", folder_.path("cache"), "--plot_loss", "false"});
    ASSERT_EQ(trained.code, 0) << trained.err;
  }
  Result generate(const std::string& prompt, bool with_template) const {
    std::vector<std::string> words{ITHACA_PROGRAM, "generate", "--model_name_or_path", folder_.path("out"),
                                   "--prompt",     prompt,     "--max_new_tokens",     "8"};
    if (with_template) words.push_back("--apply_chat_template");
    return run_program(words);
  }
  TinyFolder folder_;
};

// Each says more or less than a form it resembles: what the model reads is the template's own text.
TEST_F(ChatTemplateProcess, TheModelReadsWhatTheTemplateWrites) {
  const std::string turns = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}";
  const std::string answer = "{% if add_generation_prompt %}[assistant:{% endif %}";
  const std::vector<std::pair<std::string, std::string>> cases{
      {turns + answer, "[user:  goat ][assistant:"},
      {"{{ bos_token }}" + turns + answer, "<s>[user:  goat ][assistant:"},
      {"{% for m in messages %}[{{ m.role }}:{{ m.content | trim }}]{% endfor %}" + answer,
       "[user:goat][assistant:"},
      {"{% if messages[0].role != 'system' %}[system:]{% endif %}" + turns + answer,
       "[system:][user:  goat ][assistant:"}};
  for (const auto& [text, prompt] : cases) {
    folder_.write("out/chat_template.jinja", text);
    const Result chat = generate("  goat ", true), plain = generate(prompt, false);
    ASSERT_EQ(chat.code, 0) << chat.err;
    ASSERT_EQ(plain.code, 0) << plain.err;
    EXPECT_EQ(prompt + chat.out, plain.out);
  }
}

TEST_F(ChatTemplateProcess, RefusalsNameTheFileAndTheLine) {
  EXPECT_THAT(generate("x", true).err, HasSubstr("no chat template"));
  folder_.write("out/chat_template.jinja", "\n{{ raise_exception('Not with a ' ~ messages[0].role) }}");
  const Result raised = generate("x", true);
  EXPECT_EQ(raised.code, 2);
  EXPECT_THAT(raised.err, AllOf(HasSubstr("chat_template.jinja: line 2: "), HasSubstr("Not with a user")));
  folder_.write("out/chat_template.jinja", "{{ messages | pprint }}");
  const Result unknown = generate("x", true);
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("line 1: the filter \"pprint\" is not supported"));
}

}  // namespace
}  // namespace ithaca::testing_program
