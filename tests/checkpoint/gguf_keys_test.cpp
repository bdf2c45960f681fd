// What else a GGUF file may hold: further metadata, in parts.
#include "ithaca/checkpoint/gguf_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/checkpoint/safetensors.h"
#include "tests/checkpoint/gguf_model.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class GgufFolder : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& bytes) {
    fs::path path = folder_ / name;
    write_file(path, bytes);
    return path;
  }
  // The message of a refusal, or "accepted".
  std::string convert(const fs::path& path) {
    fs::remove_all(out());
    lines_.clear();
    try {
      convert_gguf(path, out(), "float32", [this](const std::string& line) { lines_.push_back(line); });
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }
  std::string convert_with(const std::function<void(GgufWriter&)>& more) {
    return convert(write("model.gguf", gguf_model({.more = more})));
  }
  fs::path out() const { return folder_ / "out"; }
  Json config() const { return read_json_file(out() / "config.json"); }

  TemporaryFolder folder_;
  std::vector<std::string> lines_;
};

TEST(GgufKeys, NoneOfThePackageIsMissing) {
  const Json golden = read_json_file(ITHACA_SOURCE_DIR "/tests/golden/config/keys.json");
  const Json& keys = golden.at("gguf 0.19.0").at("llama");
  ASSERT_GE(keys.size(), 200u);
  for (const Json& key : keys) EXPECT_TRUE(find_key(gguf_keys(), key.get<std::string>())) << key;
}

TEST_F(GgufFolder, WhatTheFolderCannotSayIsRefusedByName) {
  struct Case {
    std::function<void(GgufWriter&)> more;
    std::string says;
  };
  const auto u32 = [](const char* key, uint32_t value) { return [=](GgufWriter& w) { w.u32(key, value); }; };
  const auto f32 = [](const char* key, float value) { return [=](GgufWriter& w) { w.f32(key, value); }; };
  const auto flag = [](const char* key, bool value) { return [=](GgufWriter& w) { w.boolean(key, value); }; };
  const auto text = [](const char* key, const char* value) {
    return [=](GgufWriter& w) { w.string(key, value); };
  };
  const std::vector<Case> cases = {
      {u32("llama.expert_count", 8), "key llama.expert_count is 8; expected 0: mixtures"},
      {flag("llama.attention.causal", false), "key llama.attention.causal is false; expected true"},
      {u32("llama.attention.sliding_window", 64), "key llama.attention.sliding_window is 64"},
      {f32("llama.logit_scale", 0.5F), "key llama.logit_scale is 0.5; expected 0 or 1"},
      {f32("llama.residual_scale", 0.25F), "llama.residual_scale"},
      {f32("llama.embedding_scale", 12), "llama.embedding_scale"},
      {f32("llama.attn_logit_softcapping", 50), "llama.attn_logit_softcapping"},
      {f32("llama.attention.max_alibi_bias", 8), "llama.attention.max_alibi_bias"},
      {f32("llama.attention.clamp_kqv", 8), "llama.attention.clamp_kqv"},
      {f32("llama.attention.scale", 1), "key llama.attention.scale: is 1"},
      {flag("llama.use_parallel_residual", true), "llama.use_parallel_residual"},
      {u32("llama.vocab_size", 9), "key llama.vocab_size: differs from the 10 rows"},
      {u32("llama.rope.dimension_count", 2), "key llama.rope.dimension_count: differs"},
      {text("llama.rope.scaling.type", "longrope"), "key llama.rope.scaling.type: is longrope"},
      {f32("llama.rope.scaling.attn_factor", 2), "llama.rope.scaling.attn_factor"},
      {text("llama.rope.scaling.type", "yarn"), "key llama.rope.scaling.factor: is missing or 1"},
      {f32("llama.rope.scaling.factor", 0.5F), "key llama.rope.scaling.factor: is 0.5"},
      {text("general.type", "adapter"), "key general.type is \"adapter\""},
      {flag("tokenizer.ggml.add_sep_token", true), "tokenizer.ggml.add_sep_token"},
      {[](GgufWriter& w) {
         w.i32s("llama.rope.dimension_sections", {8, 8, 8, 0});
       },
       "dimension_sections is a list"},
  };
  for (const Case& one : cases) {
    const std::string message = convert_with(one.more);
    EXPECT_THAT(message, AllOf(HasSubstr("model.gguf"), HasSubstr(one.says)));
    EXPECT_FALSE(fs::exists(out() / "model.safetensors")) << one.says;
  }
}

TEST_F(GgufFolder, ValuesThatChangeNothingPassAndUnknownKeysAreNamed) {
  EXPECT_EQ(convert_with([](GgufWriter& w) {
              w.u32("llama.expert_count", 0)
                  .boolean("llama.attention.causal", true)
                  .f32("llama.logit_scale", 1)
                  .f32("llama.attention.scale", 0.5F)  // 1 / sqrt(4)
                  .u32("llama.vocab_size", kVocab)
                  .string("general.type", "model")
                  .string("general.name", "x")
                  .i32s("llama.rope.dimension_sections", {0, 0, 0, 0})
                  .u32("llama.wobble", 3);
            }),
            "accepted");
  EXPECT_THAT(lines_, Contains(AllOf(HasSubstr("note: "), HasSubstr("not used: llama.wobble"))));
}

// llama.cpp takes an absent type for linear, and knows an older name of the factor.
TEST_F(GgufFolder, PositionsAreScaledAsInLlamaCpp) {
  const Json linear = {{"rope_type", "linear"}, {"factor", 4.0}};
  EXPECT_EQ(convert_with([](GgufWriter& w) { w.f32("llama.rope.scaling.factor", 4); }), "accepted");
  EXPECT_EQ(config()["rope_scaling"], linear);
  EXPECT_EQ(convert_with([](GgufWriter& w) { w.f32("llama.rope.scale_linear", 4); }), "accepted");
  EXPECT_EQ(config()["rope_scaling"], linear);
  for (const float nothing : {0.0F, 1.0F}) {
    EXPECT_EQ(convert_with([&](GgufWriter& w) { w.f32("llama.rope.scaling.factor", nothing); }), "accepted");
    EXPECT_TRUE(config()["rope_scaling"].is_null());
  }
  EXPECT_EQ(convert_with([](GgufWriter& w) {
              w.f32("llama.rope.scaling.factor", 4).string("llama.rope.scaling.type", "none");
            }),
            "accepted");
  EXPECT_TRUE(config()["rope_scaling"].is_null());
  EXPECT_EQ(convert_with([](GgufWriter& w) {
              w.f32("llama.rope.scaling.factor", 4)
                  .string("llama.rope.scaling.type", "yarn")
                  .u32("llama.rope.scaling.original_context_length", 16)
                  .f32("llama.rope.scaling.yarn_beta_fast", 16);
            }),
            "accepted");
  EXPECT_EQ(config()["rope_scaling"], (Json{{"rope_type", "yarn"},
                                            {"factor", 4.0},
                                            {"original_max_position_embeddings", 16},
                                            {"beta_fast", 16.0}}));
}

TEST_F(GgufFolder, EveryTokenThatEndsATurnEndsGeneration) {
  EXPECT_EQ(convert_with([](GgufWriter& w) {
              w.u32("tokenizer.ggml.eot_token_id", 5).u32("tokenizer.ggml.eom_token_id", 9);
            }),
            "accepted");
  EXPECT_EQ(read_json_file(out() / "generation_config.json")["eos_token_id"], Json({1, 5, 9}));
}

TEST_F(GgufFolder, TooLongASentencePieceTokenIsRefused) {
  // longer by a multiple of 32: the tensors' data stay aligned
  const std::string before = GgufWriter::text("[PAD9]"),
                    after = GgufWriter::text(std::string(6 + 63 * 32, 'x'));
  std::string file = gguf_model({.model = "llama"});
  file.replace(file.find(before), before.size(), after);
  const std::size_t types = file.find("token_type") + 10 + 4 + 4 + 8;
  file[types + 9 * 4] = 1;  // normal
  EXPECT_THAT(convert(write("long.gguf", file)), HasSubstr("entry 9 has 2022 bytes; at most 1024"));
}

class SplitGguf : public GgufFolder {
 protected:
  // The parts of a model whose tensors end before ends[i] in part i; returns their paths.
  std::vector<fs::path> write_parts(const std::vector<int>& ends, const std::string& prefix = "m") {
    std::vector<fs::path> paths;
    for (std::size_t i = 0; i < ends.size(); ++i)
      paths.push_back(
          write(prefix + "-0000" + std::to_string(i + 1) + "-of-0000" + std::to_string(ends.size()) + ".gguf",
                gguf_part({}, static_cast<int>(i), ends)));
    return paths;
  }
};

TEST_F(SplitGguf, AnyPartGivesTheWholeModel) {
  ASSERT_EQ(convert(write("whole.gguf", gguf_model())), "accepted");
  const std::string weights = read_file(out() / "model.safetensors", 1 << 20);
  const Json expected = config();
  for (const std::vector<int>& ends : {std::vector<int>{4, 11}, {0, 11}, {3, 3, 11}})
    for (const fs::path& part : write_parts(ends)) {
      ASSERT_EQ(convert(part), "accepted") << part;
      EXPECT_EQ(read_file(out() / "model.safetensors", 1 << 20), weights) << part;
      EXPECT_EQ(config(), expected) << part;
    }
}

TEST_F(SplitGguf, WhatCannotBeJoinedSaysWhichPartItIsAndHow) {
  const std::vector<fs::path> parts = write_parts({4, 11});
  const auto refused = [&](const fs::path& path) { return convert(path); };
  EXPECT_THAT(refused(write("renamed.gguf", gguf_part({}, 1, {4, 11}))),
              AllOf(HasSubstr("renamed.gguf: is part 2 of 2 of a split file"),
                    HasSubstr("llama-gguf-split --merge")));
  const std::string second = read_file(parts[1], 1 << 20);
  fs::remove(parts[1]);
  EXPECT_THAT(refused(parts[0]),
              AllOf(HasSubstr("is part 1 of 2"), HasSubstr("part 2, "), HasSubstr("is not there")));
  write_file(parts[1], gguf_part({}, 0, {4, 11}));
  EXPECT_THAT(refused(parts[0]), HasSubstr("says that it is part 1 of 2, expected part 2 of 2"));
  write_file(parts[1], gguf_part({}, 1, {3, 11}));
  EXPECT_THAT(refused(parts[0]), HasSubstr("is in another part as well"));
  write_file(parts[1], gguf_part({}, 1, {4, 10}));
  EXPECT_THAT(refused(parts[0]), HasSubstr("split.tensors.count: differs from the 10 tensors"));
  write_file(parts[1], "GGUF");
  EXPECT_THAT(refused(parts[0]), HasSubstr("-00002-of-00002.gguf"));
  write_file(parts[1], second);
  EXPECT_EQ(refused(parts[0]), "accepted");
  EXPECT_THAT(convert_with([](GgufWriter& w) { w.u32("split.count", 2).u32("split.no", 2); }),
              HasSubstr("key split.no: must be an integer from 0 to 1"));
}

}  // namespace
}  // namespace ithaca
