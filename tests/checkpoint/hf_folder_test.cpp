#include "ithaca/checkpoint/hf_folder.h"

#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/checkpoint/safetensors.h"
#include "ithaca/config/model_config.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

Json tiny_config(bool tied) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 11},
          {"hidden_size", 8},
          {"intermediate_size", 12},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"max_position_embeddings", 32},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", tied},
          {"eos_token_id", 2},
          {"torch_dtype", "float32"}};
}

std::unique_ptr<Decoder> tiny_model(bool tied, at::ScalarType dtype, uint64_t seed) {
  auto decoder = build_decoder(parse_model_config(tiny_config(tied), "config.json"), dtype);
  initialize_weights(*decoder, seed);
  return decoder;
}

void expect_same_weights(Decoder& a, Decoder& b) {
  const ParameterList ours = a.parameters();
  const ParameterList theirs = b.parameters();
  ASSERT_EQ(ours.size(), theirs.size());
  ASSERT_GE(ours.size(), 20U);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    EXPECT_EQ(ours[i]->name, theirs[i]->name);
    EXPECT_TRUE(at::equal(ours[i]->value, theirs[i]->value)) << ours[i]->name;
  }
}

std::string message_of(Decoder& decoder, const fs::path& folder) {
  try {
    load_weights(decoder, folder);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(HfFolderTest, WhatWasSavedLoadsBitForBit) {
  for (const bool tied : {true, false}) {
    const TemporaryFolder folder;
    const auto saved = tiny_model(tied, at::kFloat, 1);
    save_model_folder(*saved, folder.path(), {});
    const auto loaded = tiny_model(tied, at::kFloat, 2);
    load_weights(*loaded, folder.path());
    expect_same_weights(*saved, *loaded);
    EXPECT_EQ(read_json_file(folder.path() / "config.json"), tiny_config(tied));
    EXPECT_EQ(read_json_file(folder.path() / "generation_config.json"), Json({{"eos_token_id", 2}}));
    for (const Parameter* parameter : loaded->parameters())
      EXPECT_EQ(reinterpret_cast<uintptr_t>(parameter->value.const_data_ptr()) % 64, 0U) << parameter->name;
  }
}

TEST(HfFolderTest, WhatAttentionWasTrainedWithIsInTheConfig) {
  const TemporaryFolder folder;
  const auto model = tiny_model(false, at::kFloat, 1);
  model->config.alibi = true;
  save_model_folder(*model, folder.path(), {});
  EXPECT_TRUE(read_model_config(folder.path()).alibi);
  Json mistral = tiny_config(false);
  mistral["architectures"] = {"MistralForCausalLM"};
  mistral["sliding_window"] = 9;
  for (const int64_t window : {0, 5}) {
    auto decoder = build_decoder(parse_model_config(mistral, "config.json"), at::kFloat);
    initialize_weights(*decoder, 1);
    EXPECT_EQ(decoder->config.sliding_window, 9);
    decoder->config.sliding_window = window;
    save_model_folder(*decoder, folder.path(), {});
    EXPECT_EQ(read_model_config(folder.path()).sliding_window, window);
  }
}

TEST(HfFolderTest, ShardsAndTheirIndexReplaceAnEarlierSave) {
  const TemporaryFolder folder;
  const auto saved = tiny_model(false, at::kFloat, 1);
  save_model_folder(*tiny_model(false, at::kFloat, 5), folder.path(), {});
  save_model_folder(*saved, folder.path(), {}, 1000);
  EXPECT_FALSE(fs::exists(folder.path() / "model.safetensors"));
  const Json index = read_json_file(folder.path() / "model.safetensors.index.json");
  EXPECT_EQ(index["weight_map"].size(), saved->parameters().size());
  EXPECT_TRUE(index["weight_map"]["lm_head.weight"].get<std::string>().starts_with("model-000"));
  const auto loaded = tiny_model(false, at::kFloat, 2);
  load_weights(*loaded, folder.path());
  expect_same_weights(*saved, *loaded);
  save_model_folder(*saved, folder.path(), {});  // and back to one file
  EXPECT_FALSE(fs::exists(folder.path() / "model.safetensors.index.json"));
  load_weights(*loaded, folder.path());
}

TEST(HfFolderTest, CastsToTheModelsDtype) {
  const TemporaryFolder folder;
  const auto saved = tiny_model(true, at::kFloat, 1);
  save_model_folder(*saved, folder.path(), {});
  const auto loaded = tiny_model(true, at::kBFloat16, 2);
  load_weights(*loaded, folder.path());
  EXPECT_TRUE(
      at::equal(loaded->embed_tokens.weight.value, saved->embed_tokens.weight.value.to(at::kBFloat16)));
  const TemporaryFolder half;
  save_model_folder(*loaded, half.path(), {});
  EXPECT_EQ(read_json_file(half.path() / "config.json")["torch_dtype"], "bfloat16");
  EXPECT_EQ(
      SafetensorsFile::open(half.path() / "model.safetensors").header().tensors.at("model.norm.weight").dtype,
      DType::kBF16);
}

TEST(HfFolderTest, CarriesTheTokenizerAlong) {
  const TemporaryFolder source, target;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                           "generation_config.json", "notes.txt"})
    write_file(source.path() / name, std::string("content of ") + name);
  save_model_folder(*tiny_model(true, at::kFloat, 1), target.path(), source.path());
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"})
    EXPECT_EQ(read_file(target.path() / name, 100), std::string("content of ") + name);
  EXPECT_FALSE(fs::exists(target.path() / "notes.txt"));
}

TEST(HfFolderTest, AStoredHeadIsIgnoredByATiedModel) {
  const TemporaryFolder folder;
  save_model_folder(*tiny_model(false, at::kFloat, 1), folder.path(), {});
  const auto tied = tiny_model(true, at::kFloat, 2);
  EXPECT_EQ(message_of(*tied, folder.path()), "accepted");  // lm_head.weight is there and not wanted
}

TEST(HfFolderTest, AnotherModelsWeightsListEveryProblem) {
  const TemporaryFolder folder;
  save_model_folder(*tiny_model(true, at::kFloat, 1), folder.path(), {});
  Json config = tiny_config(false);
  config["intermediate_size"] = 16;
  config["num_hidden_layers"] = 1;
  const auto other = build_decoder(parse_model_config(config, "config.json"), at::kFloat);
  const std::string message = message_of(*other, folder.path());
  EXPECT_THAT(message, HasSubstr("lm_head.weight is missing"));
  EXPECT_THAT(message, HasSubstr("mlp.up_proj.weight has shape [12, 8], config.json says [16, 8]"));
  EXPECT_THAT(message, HasSubstr("model.layers.1.input_layernorm.weight is not part of this model"));
}

TEST(HfFolderTest, BadFoldersAreRefusedByName) {
  struct Bad {
    std::string says;
    std::function<void(const fs::path&)> make;  // in a folder with shards
  };
  const auto set_shard = [](const fs::path& folder, const Json& value) {
    Json index = read_json_file(folder / "model.safetensors.index.json");
    index["weight_map"]["model.norm.weight"] = value;
    write_json_file(folder / "model.safetensors.index.json", index);
  };
  const auto first_shard = [](const fs::path& folder) {
    return folder /
           read_json_file(folder / "model.safetensors.index.json")["weight_map"]["model.embed_tokens.weight"]
               .get<std::string>();
  };
  const auto remove_weights = [](const fs::path& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
    for (const fs::path& file : files) fs::remove(file);
  };
  const std::vector<Bad> cases = {
      {"model.norm.weight names the file \"../evil.safetensors\", which leads",
       [&](const fs::path& f) { set_shard(f, "../evil.safetensors"); }},
      {"names the file \"/etc/passwd\", which leads",
       [&](const fs::path& f) { set_shard(f, "/etc/passwd"); }},
      {"names the file \"..\"", [&](const fs::path& f) { set_shard(f, ".."); }},
      {"names the file \"\", which is empty", [&](const fs::path& f) { set_shard(f, ""); }},
      {"a\\b", [&](const fs::path& f) { set_shard(f, "a\\b"); }},
      {"symbolic link",
       [&](const fs::path& f) {
         fs::create_symlink("/etc/passwd", f / "link.safetensors");
         set_shard(f, "link.safetensors");
       }},
      {"file name must be a string", [&](const fs::path& f) { set_shard(f, 7); }},
      {"absent.safetensors: cannot open", [&](const fs::path& f) { set_shard(f, "absent.safetensors"); }},
      {"has no tensor model.norm.weight",
       [&](const fs::path& f) { set_shard(f, first_shard(f).filename().string()); }},
      {"truncated",
       [&](const fs::path& f) { fs::resize_file(first_shard(f), fs::file_size(first_shard(f)) - 1); }},
      {"weight_map must be an object",
       [&](const fs::path& f) { write_file(f / "model.safetensors.index.json", "{\"weight_map\": []}"); }},
      {"weight_map must be an object",
       [&](const fs::path& f) { write_file(f / "model.safetensors.index.json", "[]"); }},
      {"not valid JSON", [&](const fs::path& f) { write_file(f / "model.safetensors.index.json", "{"); }},
      {"occurs twice",
       [&](const fs::path& f) {
         write_file(f / "model.safetensors.index.json", R"({"weight_map":{"a":"b","a":"c"}})");
       }},
      {"has neither model.safetensors nor", remove_weights},
      {"pytorch_model.bin: pickled weights",
       [&](const fs::path& f) {
         remove_weights(f);
         write_file(f / "pytorch_model.bin", "x");
       }},
      {"has dtype I8",
       [&](const fs::path& f) {
         const std::string eight(8, 'x');
         write_safetensors(
             f / "int.safetensors",
             {{"model.norm.weight", DType::kI8, {8}, [&] { return std::as_bytes(std::span(eight)); }}});
         set_shard(f, "int.safetensors");
       }},
  };
  const auto model = tiny_model(false, at::kFloat, 1);
  for (const Bad& bad : cases) {
    const TemporaryFolder folder;
    save_model_folder(*model, folder.path(), {}, 1000);
    bad.make(folder.path());
    const std::string message = message_of(*tiny_model(false, at::kFloat, 2), folder.path());
    EXPECT_THAT(message, HasSubstr(bad.says));
    EXPECT_THAT(message, HasSubstr(folder.path().string()));
  }
}

}  // namespace
}  // namespace ithaca
