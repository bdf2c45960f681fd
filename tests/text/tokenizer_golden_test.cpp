// Ids and decoded texts of tiny tokenizers in each family's style, equal to the `tokenizers` library's
// (tools/oracles/tokenizer_goldens.py).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ithaca/text/tokenizer.h"

namespace ithaca {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(ITHACA_SOURCE_DIR) / "tests/golden/text";

class TokenizerGolden : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerGolden, EqualsOracle) {
  const auto path = kGolden / (GetParam() + ".json");
  const Tokenizer tokenizer = Tokenizer::from_json(read_json_file(path), path.string());
  const Json cases = read_json_file(kGolden / "cases.json").at(GetParam());
  ASSERT_GE(cases.size(), 15u);
  for (const Json& sample : cases) {
    const auto text = sample.at("text").get<std::string>();
    SCOPED_TRACE(testing::PrintToString(text.substr(0, 80)));
    EXPECT_EQ(tokenizer.encode(text), sample.at("ids").get<std::vector<int32_t>>());
    const auto with_special = sample.at("ids_special").get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text, true), with_special);
    EXPECT_EQ(tokenizer.decode(with_special), sample.at("decoded").get<std::string>());
    EXPECT_EQ(tokenizer.decode(with_special, true), sample.at("decoded_skip").get<std::string>());
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGolden,
                         testing::Values("gpt2", "smollm2", "llama3", "qwen", "deepseek", "llama2", "mistral",
                                         "odd_parts", "words"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ithaca
