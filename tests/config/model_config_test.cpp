#include "ithaca/config/model_config.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/config/model_keys.h"
#include "tests/config/tiny_config.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The tiny config with the keys of `changes` replaced (nulls stay as nulls).
Json tiny(const char* changes = "{}") {
  Json json = Json::parse(kTinyConfig);
  const Json patch = Json::parse(changes);
  for (const auto& [key, value] : patch.items()) json[key] = value;
  return json;
}

ModelConfig parse(const char* changes) {
  return parse_model_config(tiny(changes), "config.json");
}

ModelConfig parse_mistral(const char* changes) {
  Json json = tiny(changes);
  json["architectures"] = {"MistralForCausalLM"};
  json["model_type"] = "mistral";
  return parse_model_config(json, "config.json");
}

TEST(ModelConfig, DefaultsOfAbsentKeys) {
  const ModelConfig config = parse("{}");
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope.type, RopeConfig::Type::kDefault);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_EQ(config.dtype, "");
  EXPECT_THAT(config.eos_token_ids, IsEmpty());
  EXPECT_FALSE(config.bos_token_id.has_value());
  EXPECT_EQ(config.raw->at("hidden_size"), 36);
}

TEST(ModelConfig, OptionalKeys) {
  const ModelConfig config = parse(
      R"({"num_key_value_heads": null, "head_dim": 8, "tie_word_embeddings": true, "attention_bias": true,
    "mlp_bias": true, "torch_dtype": "bfloat16", "eos_token_id": [1, 2], "bos_token_id": 0, "hidden_size": 36.0, "rms_norm_eps": 1e-5})");
  EXPECT_EQ(config.num_key_value_heads, 9);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_TRUE(config.tie_word_embeddings && config.attention_bias && config.mlp_bias);
  EXPECT_EQ(config.dtype, "bfloat16");
  EXPECT_THAT(config.eos_token_ids, ElementsAre(1, 2));
  EXPECT_EQ(config.bos_token_id, 0);
  EXPECT_EQ(config.hidden_size, 36);
  EXPECT_EQ(parse(R"({"dtype": "float32", "eos_token_id": 7})").dtype, "float32");
  EXPECT_THAT(parse(R"({"eos_token_id": 7})").eos_token_ids, ElementsAre(7));
}

TEST(ModelConfig, RopeInBothSpellings) {
  using Type = RopeConfig::Type;
  EXPECT_EQ(parse(R"({"rope_theta": 5e5})").rope.theta, 5e5);
  EXPECT_EQ(parse(R"({"rope_scaling": null, "rope_theta": 7})").rope.theta, 7);
  EXPECT_EQ(parse(R"({"rope_parameters": {"rope_theta": 100000, "rope_type": "default"}})").rope.theta, 1e5);
  const RopeConfig linear = parse(R"({"rope_scaling": {"type": "linear", "factor": 4}})").rope;
  EXPECT_EQ(linear.type, Type::kLinear);
  EXPECT_EQ(linear.factor, 4);
  const RopeConfig dynamic =
      parse(R"({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 128})")
          .rope;
  EXPECT_EQ(dynamic.type, Type::kDynamic);
  EXPECT_EQ(dynamic.original_max_position_embeddings, 128);
  const RopeConfig llama3 =
      parse(R"({"rope_theta": 500000, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "max_position_embeddings": 131072})")
          .rope;
  EXPECT_EQ(llama3.type, Type::kLlama3);
  EXPECT_EQ(llama3.theta, 5e5);
  EXPECT_EQ(llama3.original_max_position_embeddings, 8192);
  const RopeConfig yarn =
      parse(R"({"rope_parameters": {"rope_theta": 1e6, "factor": 4.0, "rope_type": "yarn", "beta_fast": 16,
    "attention_factor": 1.5, "mscale": 0.7, "mscale_all_dim": 0.9, "truncate": false, "original_max_position_embeddings": 32}})")
          .rope;
  EXPECT_EQ(yarn.type, Type::kYarn);
  EXPECT_EQ(yarn.beta_fast, 16);
  EXPECT_EQ(yarn.beta_slow, 1);
  EXPECT_EQ(yarn.attention_factor, 1.5);
  EXPECT_EQ(yarn.mscale, 0.7);
  EXPECT_EQ(yarn.mscale_all_dim, 0.9);
  EXPECT_FALSE(yarn.truncate);
}

TEST(ModelConfig, RopePrecedenceIsThatOfTransformers) {
  // a rope_scaling that says something wins; the theta inside wins over the one outside
  const RopeConfig rope =
      parse(R"({"rope_theta": 1, "rope_scaling": {"rope_type": "linear", "factor": 2, "rope_theta": 3},
    "rope_parameters": {"rope_type": "linear", "factor": 9, "rope_theta": 9}})")
          .rope;
  EXPECT_EQ(rope.theta, 3);
  EXPECT_EQ(rope.factor, 2);
  const RopeConfig yarn =
      parse(R"({"rope_scaling": {"type": "yarn", "factor": null, "original_max_position_embeddings": 512}})")
          .rope;
  EXPECT_EQ(yarn.factor, 4) << "max_position_embeddings 2048 / 512";
}

TEST(ModelConfig, MistralWithoutWindow) {
  const ModelConfig config = parse_mistral(R"({"sliding_window": null, "attention_bias": true})");
  EXPECT_FALSE(config.attention_bias) << "its layers have none";
  EXPECT_EQ(config.max_position_embeddings, 131072);
  EXPECT_EQ(config.sliding_window, 0);
}

TEST(ModelConfig, SlidingWindowAndAlibi) {
  EXPECT_EQ(parse_mistral(R"({"sliding_window": 128})").sliding_window, 128);
  EXPECT_EQ(parse_mistral("{}").sliding_window, 4096) << "transformers' default";
  EXPECT_EQ(parse(R"({"sliding_window": 128})").sliding_window, 0) << "no key of Llama";
  EXPECT_TRUE(parse(R"({"alibi": true})").alibi);
  EXPECT_FALSE(parse("{}").alibi);
}

TEST(ModelConfig, TheFamilyIsNamedByEitherKeyAndModelTypeDecides) {
  EXPECT_EQ(parse(R"({"architectures": null})").architecture, "LlamaForCausalLM");
  EXPECT_EQ(parse(R"({"model_type": null})").model_type, "llama");
  EXPECT_EQ(parse(R"({"architectures": ["LlamaModel"]})").architecture, "LlamaForCausalLM");
  EXPECT_EQ(parse(R"({"architectures": ["MistralModel"], "model_type": "mistral"})").architecture,
            "MistralForCausalLM");
  const ModelConfig both = parse(R"({"architectures": ["MistralForCausalLM"]})");  // of model_type llama
  EXPECT_EQ(both.architecture, "LlamaForCausalLM");
  EXPECT_THAT(both.notes,
              ElementsAre(HasSubstr("architectures says MistralForCausalLM, model_type says llama")));
}

TEST(ModelConfig, OdditiesThatTransformersLoads) {
  EXPECT_THAT(parse(R"({"eos_token_id": -1})").eos_token_ids, IsEmpty());
  EXPECT_THAT(parse(R"({"eos_token_id": [5, -1]})").eos_token_ids, ElementsAre(5));
  EXPECT_THAT(parse(R"({"eos_token_id": -1})").notes,
              ElementsAre(HasSubstr("eos_token_id -1 names no token")));
  EXPECT_FALSE(parse(R"({"bos_token_id": -1})").bos_token_id.has_value());
  EXPECT_EQ(parse(R"({"dtype": "torch.bfloat16"})").dtype, "bfloat16");
  EXPECT_EQ(parse(R"({"torch_dtype": "bf16"})").dtype, "bfloat16");
  EXPECT_EQ(parse(R"({"torch_dtype": "half"})").dtype, "float16");
  EXPECT_EQ(parse(R"({"hidden_act": "swish"})").hidden_size, 36);
  EXPECT_EQ(parse(R"({"attention_dropout": null, "quantization_config": null})").hidden_size, 36);
  EXPECT_EQ(parse_mistral(R"({"layer_types": ["full_attention", "attention"]})").sliding_window, 0);
  EXPECT_EQ(parse_mistral(R"({"layer_types": ["sliding_attention", "sliding_attention"]})").sliding_window,
            4096);
}

TEST(ModelConfig, KeysThatNobodyReadsAreNamedOnce) {
  const ModelConfig config = parse(
      R"({"frobnicate": 1, "sliding_window": 9, "nothing": null, "use_cache": true, "temperature": 0.5, "rope_parameters":
    {"rope_theta": 7, "wobble": 2}})");
  EXPECT_THAT(config.notes,
              testing::UnorderedElementsAre(
                  "config.json: not used: frobnicate, sliding_window (transformers reads no such key of a "
                  "llama model)",
                  "config.json: not used: wobble (no rotary embedding here reads such a key)"));
  EXPECT_THAT(parse("{}").notes, IsEmpty());
}

TEST(ModelConfig, ReadsWhatPythonWrites) {
  const TemporaryFolder folder;
  std::string text = kTinyConfig;
  text.insert(1, R"("a": Infinity, "b": [-Infinity, NaN], "c": "NaN, \"Infinity\"", )");
  const ModelConfig config = read_model_config(folder.write("config.json", text));
  EXPECT_EQ(config.raw->at("a"), Json({{"__float__", "Infinity"}}));
  EXPECT_EQ(config.raw->at("b").at(0), Json({{"__float__", "-Infinity"}}));
  EXPECT_EQ(config.raw->at("b").at(1), Json({{"__float__", "NaN"}}));
  EXPECT_EQ(config.raw->at("c"), "NaN, \"Infinity\"");
  text.insert(1, R"("rms_norm_eps": Infinity, )");
  EXPECT_THROW(read_model_config(folder.write("config.json", text)), UserError);
}

// Every key that transformers' configuration classes read, in two versions, is declared.
TEST(ModelKeys, NoneOfTransformersIsMissing) {
  const Json golden = read_json_file(ITHACA_SOURCE_DIR "/tests/golden/config/keys.json");
  for (const char* version : {"transformers 4.57.6", "transformers 5.23.0"}) {
    const std::pair<const char*, const char*> families[] = {{"llama", "LlamaForCausalLM"},
                                                            {"mistral", "MistralForCausalLM"}};
    for (const auto& [family, architecture] : families) {
      const Json& keys = golden.at(version).at(family);
      ASSERT_GE(keys.size(), 40u);
      for (const Json& key : keys)
        EXPECT_TRUE(find_key(model_config_keys(architecture), key.get<std::string>()) ||
                    find_key(generation_keys(), key.get<std::string>()))
            << version << " " << family << " " << key;
    }
    ASSERT_GE(golden.at(version).at("generation").size(), 60u);
    for (const Json& key : golden.at(version).at("generation"))
      EXPECT_TRUE(find_key(generation_keys(), key.get<std::string>())) << version << " " << key;
  }
}

TEST(ModelKeys, ValuesThatChangeNothing) {
  EXPECT_TRUE(changes_nothing(Unless::kZero, 0.0) && changes_nothing(Unless::kZero, false));
  EXPECT_TRUE(changes_nothing(Unless::kOne, 1) && changes_nothing(Unless::kTrue, true));
  EXPECT_TRUE(changes_nothing(Unless::kZeroOrOne, 0) && changes_nothing(Unless::kZeroOrOne, 1.0));
  EXPECT_TRUE(changes_nothing(Unless::kEmpty, Json::object()) && changes_nothing(Unless::kEmpty, ""));
  EXPECT_TRUE(changes_nothing(Unless::kNothing, nullptr));
  EXPECT_FALSE(changes_nothing(Unless::kZero, 0.1) || changes_nothing(Unless::kZero, true));
  EXPECT_FALSE(changes_nothing(Unless::kTrue, false) || changes_nothing(Unless::kOne, "1"));
  EXPECT_FALSE(changes_nothing(Unless::kEmpty, Json::array({0})) || changes_nothing(Unless::kNothing, 0));
}

TEST(ModelConfig, CountsParameters) {
  // 64*36 embeddings, head as large; a layer: q 36*36, k and v 36*12, o 36*36, three of 36*48, two norms; the
  // last norm
  const int64_t layer = 36 * 36 + 2 * 36 * 12 + 36 * 36 + 3 * 36 * 48 + 2 * 36;
  EXPECT_EQ(count_parameters(parse("{}")), 2 * 64 * 36 + 2 * layer + 36);
  EXPECT_EQ(count_parameters(parse(R"({"tie_word_embeddings": true})")), 64 * 36 + 2 * layer + 36);
  EXPECT_EQ(count_parameters(parse(R"({"attention_bias": true, "mlp_bias": true})")),
            2 * 64 * 36 + 2 * (layer + 36 + 24 + 36 + 2 * 48 + 36) + 36);
}

TEST(ModelConfig, SmolLm2HasItsKnownSize) {
  const ModelConfig config =
      parse(R"({"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true})");
  EXPECT_EQ(count_parameters(config), 134515008);
}

TEST(ModelConfig, ReadsAFolderOrTheFileItself) {
  const TemporaryFolder folder;
  const std::string file = folder.write("model/config.json", kTinyConfig);
  EXPECT_EQ(read_model_config(folder.path() / "model").vocab_size, 64);
  EXPECT_EQ(read_model_config(file).vocab_size, 64);
  EXPECT_THROW(read_model_config(folder.path()), UserError);
}

struct Bad {
  const char* changes;
  const char* names;    // the key
  const char* expects;  // what the message says of it
};

constexpr Bad kBad[] = {
    {R"({"architectures": null, "model_type": null})", "architectures is null", "LlamaForCausalLM"},
    {R"({"model_type": "qwen2"})", "model_type is \"qwen2\"", "llama or mistral"},
    {R"({"architectures": ["LlamaForSequenceClassification"]})", "LlamaForSequenceClassification", "one of"},
    {R"({"architectures": []})", "architectures is []", "LlamaForCausalLM"},
    {R"({"architectures": "LlamaForCausalLM"})", "architectures", "a list"},
    {R"({"architectures": [1]})", "architectures", "a list"},
    {R"({"architectures": ["GPT2LMHeadModel"]})", "GPT2LMHeadModel", "one of: LlamaForCausalLM"},
    {R"({"vocab_size": null})", "vocab_size is null", "an integer from 1 to 268435456"},
    {R"({"vocab_size": 0})", "vocab_size is 0", "from 1"},
    {R"({"vocab_size": -1})", "vocab_size is -1", "from 1"},
    {R"({"vocab_size": 268435457})", "vocab_size", "to 268435456"},
    {R"({"vocab_size": 18446744073709551615})", "vocab_size", "to 268435456"},
    {R"({"vocab_size": "64"})", "vocab_size is \"64\"", "an integer"},
    {R"({"vocab_size": 64.5})", "vocab_size is 64.5", "an integer"},
    {R"({"vocab_size": 1e300})", "vocab_size", "an integer"},
    {R"({"vocab_size": [64]})", "vocab_size", "an integer"},
    {R"({"hidden_size": 1048577})", "hidden_size", "to 1048576"},
    {R"({"hidden_size": true})", "hidden_size is true", "an integer"},
    {R"({"hidden_size": 37})", "hidden_size 37", "not divisible by num_attention_heads 9"},
    {R"({"hidden_size": 4})", "hidden_size 4", "not divisible"},
    {R"({"hidden_size": 27, "num_key_value_heads": 9})", "head_dim 3", "odd"},
    {R"({"head_dim": 7})", "head_dim 7", "odd"},
    {R"({"head_dim": 0})", "head_dim is 0", "from 1"},
    {R"({"head_dim": 16384, "num_attention_heads": 65536, "num_key_value_heads": 1})",
     "num_attention_heads x head_dim", "at most"},
    {R"({"intermediate_size": -4})", "intermediate_size", "from 1"},
    {R"({"num_hidden_layers": 4097})", "num_hidden_layers", "to 4096"},
    {R"({"num_attention_heads": 0})", "num_attention_heads", "from 1"},
    {R"({"num_key_value_heads": 4})", "num_attention_heads 9", "not divisible by num_key_value_heads 4"},
    {R"({"num_key_value_heads": 18})", "num_key_value_heads 18", "not divisible"},
    {R"({"num_key_value_heads": -3})", "num_key_value_heads is -3", "from 1"},
    {R"({"max_position_embeddings": 0})", "max_position_embeddings", "from 1"},
    {R"({"rms_norm_eps": -1})", "rms_norm_eps is -1", "from 0 to 1"},
    {R"({"rms_norm_eps": "tiny"})", "rms_norm_eps", "a number"},
    {R"({"tie_word_embeddings": "yes"})", "tie_word_embeddings", "true or false"},
    {R"({"attention_bias": 1})", "attention_bias is 1", "true or false"},
    {R"({"mlp_bias": []})", "mlp_bias", "true or false"},
    {R"({"hidden_act": "gelu"})", "hidden_act is \"gelu\"", "silu"},
    {R"({"hidden_act": 3})", "hidden_act", "a string"},
    {R"({"attention_dropout": 0.1})", "attention_dropout is 0.1", "0 (dropout"},
    {R"({"quantization_config": {"bits": 4}})", "quantization_config", "not supported"},
    {R"({"dtype": "int8"})", "dtype is \"int8\"", "float32, bfloat16 or float16"},
    {R"({"torch_dtype": 16})", "torch_dtype is 16", "a string"},
    {R"({"eos_token_id": "end"})", "eos_token_id", "a token id"},
    {R"({"eos_token_id": [1, 1.5]})", "eos_token_id is 1.5", "a token id"},
    {R"({"eos_token_id": -1e15})", "eos_token_id is -1", "a token id"},
    {R"({"bos_token_id": 1.5})", "bos_token_id is 1.5", "a token id"},
    {R"({"rope_theta": 0})", "rope_theta is 0", "a number from"},
    {R"({"rope_theta": "big"})", "rope_theta", "a number"},
    {R"({"rope_scaling": 4})", "rope_scaling is 4", "an object"},
    {R"({"rope_scaling": {"type": "longrope"}})", "rope_scaling.type is \"longrope\"",
     "one of: default, linear"},
    {R"({"rope_parameters": {"rope_type": 3}})", "rope_parameters.rope_type is 3", "a string"},
    {R"({"rope_scaling": {"type": "linear"}})", "rope_scaling.factor is missing", "a number from 1"},
    {R"({"rope_scaling": {"type": "linear", "factor": 0.5}})", "rope_scaling.factor is 0.5", "from 1"},
    {R"({"rope_scaling": {"type": "llama3", "factor": 8}})", "rope_scaling.low_freq_factor is missing",
     "a number"},
    {R"({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}})",
     "high_freq_factor 1", "above low_freq_factor 4"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 8, "beta_fast": 1, "beta_slow": 32}})", "beta_fast 1",
     "below beta_slow 32"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 8, "truncate": 1}})", "rope_scaling.truncate",
     "true or false"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 8, "original_max_position_embeddings": -1}})",
     "original_max_position_embeddings", "from 1"},
    {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor is 0.5", "expected 1"},
    {R"({"model_type": "mistral", "sliding_window": 0})", "sliding_window is 0", "from 1"},
    {R"({"model_type": "mistral", "sliding_window": "all"})", "sliding_window", "from 1"},
    {R"({"layer_types": ["sliding_attention", "sliding_attention"]})", "layer_types", "times full_attention"},
    {R"({"layer_types": ["full_attention"]})", "layer_types", "num_hidden_layers times"},
    {R"({"model_type": "mistral", "layer_types": ["full_attention", "sliding_attention"]})", "layer_types",
     "times sliding_attention"},
    {R"({"compression_config": {}})", "compression_config is {}", "not supported"},
    {R"({"per_layer_config": {"0": {"intermediate_size": 8}}})", "per_layer_config",
     "empty (layers that differ"},
    {R"({"pruned_heads": {"0": [1]}})", "pruned_heads", "empty"},
    {R"({"is_encoder_decoder": true})", "is_encoder_decoder is true", "false (only decoders"},
    {R"({"add_cross_attention": true})", "add_cross_attention", "false"},
    {R"({"rope_interleaved": true})", "rope_interleaved", "false"},
    {R"({"rope_parameters": {"full_attention": {"rope_theta": 5}}})", "rope_parameters.full_attention",
     "one level up"},
    {R"({"rope_scaling": {"type": "linear", "factor": 2, "long_factor": [1]}})", "rope_scaling.long_factor",
     "longrope"},
    {R"({"rope_parameters": {"partial_rotary_factor": 0.5}})", "rope_parameters.partial_rotary_factor is 0.5",
     "expected 1"},
    {R"({"alibi": "yes"})", "alibi is", "true or false"},
};

TEST(BadModelConfig, EachNamesTheFileTheKeyAndWhatWasExpected) {
  static_assert(std::size(kBad) >= 50);
  for (const Bad& bad : kBad) {
    try {
      parse(bad.changes);
      ADD_FAILURE() << "accepted: " << bad.changes;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("config.json"), HasSubstr(bad.names), HasSubstr(bad.expects)))
          << bad.changes;
    }
  }
}

TEST(BadModelConfig, AllProblemsAtOnce) {
  try {
    parse_model_config(Json::object(), "m/config.json");
    FAIL();
  } catch (const UserError& error) {
    for (const char* key : {"architectures", "vocab_size", "hidden_size", "intermediate_size",
                            "num_hidden_layers", "num_attention_heads"})
      EXPECT_THAT(error.what(), HasSubstr(std::string("m/config.json: ") + key + " is missing"));
  }
  EXPECT_THROW(parse_model_config(Json::array(), "x"), UserError);
  EXPECT_THROW(parse_model_config(Json(), "x"), UserError);
}

}  // namespace
}  // namespace ithaca
