#include "ithaca/checkpoint/hf_folder.h"

#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/checkpoint/model_weights.h"
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
  mistral["model_type"] = "mistral";
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
  const std::string more = "additional_chat_templates/tool_use.jinja";
  fs::create_directories(source.path() / "additional_chat_templates");
  write_file(source.path() / more, "content of " + more);
  save_model_folder(*tiny_model(true, at::kFloat, 1), target.path(), source.path());
  for (const std::string& name :
       {std::string("tokenizer.json"), std::string("tokenizer_config.json"),
        std::string("chat_template.jinja"), std::string("generation_config.json"), more})
    EXPECT_EQ(read_file(target.path() / name, 100), "content of " + name);
  EXPECT_FALSE(fs::exists(target.path() / "notes.txt"));
}

// The tensors of a folder's one file, in memory, to be written again otherwise.
struct Stored {
  std::string name, bytes;
  DType dtype;
  std::vector<int64_t> shape;
};

std::vector<Stored> stored_tensors(const fs::path& folder) {
  const SafetensorsFile file = SafetensorsFile::open(folder / "model.safetensors");
  std::vector<Stored> tensors;
  for (const auto& [name, info] : file.header().tensors) {
    const auto data = file.data(info);
    tensors.push_back(
        {name, std::string(reinterpret_cast<const char*>(data.data()), data.size()), info.dtype, info.shape});
  }
  return tensors;
}

void write_tensors(const fs::path& folder, const std::vector<Stored>& tensors) {
  std::vector<TensorToWrite> list;
  for (const Stored& tensor : tensors)
    list.push_back(
        {tensor.name, tensor.dtype, tensor.shape, [&] { return std::as_bytes(std::span(tensor.bytes)); }});
  write_safetensors(folder / "model.safetensors", list);
}

Stored& find_stored(std::vector<Stored>& tensors, const std::string& name) {
  for (Stored& tensor : tensors)
    if (tensor.name == name) return tensor;
  throw std::runtime_error("no tensor " + name);
}

TEST(HfFolderTest, ATiedModelTakesAStoredHeadThatIsTheEmbedding) {
  const TemporaryFolder folder;
  save_model_folder(*tiny_model(true, at::kFloat, 1), folder.path(), {});
  std::vector<Stored> tensors = stored_tensors(folder.path());
  Stored head = find_stored(tensors, "model.embed_tokens.weight");
  head.name = "lm_head.weight";
  tensors.push_back(head);
  write_tensors(folder.path(), tensors);
  EXPECT_EQ(message_of(*tiny_model(true, at::kFloat, 2), folder.path()), "accepted");
  ModelConfig config = parse_model_config(tiny_config(true), "config.json");
  untie_if_heads_differ(config, WeightFiles::open(folder.path()), folder.path());
  EXPECT_TRUE(config.tie_word_embeddings);
}

// As transformers: two different matrices are not tied, whatever the flag says.
TEST(HfFolderTest, AHeadThatDiffersUntiesTheModel) {
  const TemporaryFolder folder;
  save_model_folder(*tiny_model(false, at::kFloat, 1), folder.path(), {});
  EXPECT_THAT(message_of(*tiny_model(true, at::kFloat, 2), folder.path()),
              HasSubstr("lm_head.weight differs from the embedding"));
  write_json_file(folder.path() / "config.json", tiny_config(true));
  Settings settings;
  settings.model_name_or_path = folder.path().string();
  const ModelConfig config = read_checked_config(settings);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_THAT(config.notes,
              ::testing::ElementsAre(HasSubstr("tie_word_embeddings is true, but lm_head.weight differs")));
  const auto loaded = build_decoder(config, at::kFloat);
  load_weights(*loaded, folder.path());
  expect_same_weights(*tiny_model(false, at::kFloat, 1), *loaded);
  const TemporaryFolder again;
  save_model_folder(*loaded, again.path(), {});
  EXPECT_EQ(read_json_file(again.path() / "config.json")["tie_word_embeddings"], false);
}

TEST(HfFolderTest, HeadsOfTwoTypesAreComparedAsNumbers) {
  const TemporaryFolder folder;
  const auto model = tiny_model(true, at::kBFloat16, 1);
  save_model_folder(*model, folder.path(), {});
  std::vector<Stored> tensors = stored_tensors(folder.path());
  Stored head = find_stored(tensors, "model.embed_tokens.weight");
  const at::Tensor wide = model->embed_tokens.weight.value.to(at::kFloat);
  head.name = "lm_head.weight";
  head.dtype = DType::kF32;
  head.bytes.assign(static_cast<const char*>(wide.const_data_ptr()), wide.nbytes());
  tensors.push_back(head);
  write_tensors(folder.path(), tensors);
  EXPECT_EQ(message_of(*tiny_model(true, at::kFloat, 2), folder.path()), "accepted");
  tensors.back().bytes[2] ^= 1;
  write_tensors(folder.path(), tensors);
  EXPECT_THAT(message_of(*tiny_model(true, at::kFloat, 2), folder.path()), HasSubstr("differs"));
}

TEST(HfFolderTest, ATiedModelMayStoreOnlyItsHead) {
  const TemporaryFolder folder;
  const auto saved = tiny_model(true, at::kFloat, 1);
  save_model_folder(*saved, folder.path(), {});
  std::vector<Stored> tensors = stored_tensors(folder.path());
  find_stored(tensors, "model.embed_tokens.weight").name = "lm_head.weight";
  write_tensors(folder.path(), tensors);
  const auto loaded = tiny_model(true, at::kFloat, 2);
  load_weights(*loaded, folder.path());
  expect_same_weights(*saved, *loaded);
}

TEST(HfFolderTest, NamesOfTheBaseModelAndOldBuffers) {
  const TemporaryFolder folder;
  const auto saved = tiny_model(false, at::kFloat, 1);
  save_model_folder(*saved, folder.path(), {});
  std::vector<Stored> tensors = stored_tensors(folder.path());
  for (Stored& tensor : tensors)
    if (tensor.name.starts_with("model.")) tensor.name.erase(0, 6);
  tensors.push_back({"layers.0.self_attn.rotary_emb.inv_freq", std::string(8, '\0'), DType::kF32, {2}});
  write_tensors(folder.path(), tensors);
  Json config = tiny_config(false);
  config["architectures"] = {"LlamaModel"};
  const auto loaded = build_decoder(parse_model_config(config, "config.json"), at::kFloat);
  load_weights(*loaded, folder.path());
  expect_same_weights(*saved, *loaded);
  const TemporaryFolder again;
  save_model_folder(*loaded, again.path(), {});
  EXPECT_EQ(read_json_file(again.path() / "config.json")["architectures"], Json({"LlamaForCausalLM"}));
  // the same tensor under both names is one too many
  Stored twice = find_stored(tensors, "norm.weight");
  twice.name = "model.norm.weight";
  tensors.push_back(twice);
  write_tensors(folder.path(), tensors);
  EXPECT_THAT(message_of(*loaded, folder.path()), HasSubstr("tensor norm.weight is not part of this model"));
}

TEST(HfFolderTest, EveryFileMayBeALinkAndNoneIsWrittenThrough) {
  for (const std::size_t shard_bytes : {std::size_t{1} << 30, std::size_t{1000}}) {
    const TemporaryFolder blobs, snapshot;
    const auto saved = tiny_model(false, at::kFloat, 1);
    save_model_folder(*saved, blobs.path(), {}, shard_bytes);
    for (const auto& entry : fs::directory_iterator(blobs.path()))
      fs::create_symlink(entry.path(), snapshot.path() / entry.path().filename());
    Settings settings;
    settings.model_name_or_path = snapshot.path().string();
    EXPECT_EQ(read_checked_config(settings).vocab_size, 11);
    const auto loaded = tiny_model(false, at::kFloat, 2);
    load_weights(*loaded, snapshot.path());
    expect_same_weights(*saved, *loaded);
    const std::string before = read_file(blobs.path() / "config.json", 10000);
    save_model_folder(*tiny_model(true, at::kFloat, 3), snapshot.path(), blobs.path());
    EXPECT_EQ(read_file(blobs.path() / "config.json", 10000), before);
    for (const auto& entry : fs::directory_iterator(snapshot.path()))
      EXPECT_FALSE(entry.is_symlink()) << entry.path();
    load_weights(*loaded, blobs.path());  // as they were
    expect_same_weights(*saved, *loaded);
  }
}

TEST(HfFolderTest, AnIndexMayListWhatNobodyNeedsAndErrOnWhereATensorLies) {
  const TemporaryFolder folder;
  const auto saved = tiny_model(true, at::kFloat, 1);
  save_model_folder(*saved, folder.path(), {}, 1000);
  Json index = read_json_file(folder.path() / "model.safetensors.index.json");
  index["weight_map"]["lm_head.weight"] =
      index["weight_map"]["model.norm.weight"];                                    // tied: no shard holds it
  index["weight_map"]["model.extra.weight"] = "model-00009-of-00009.safetensors";  // nor this file
  index["weight_map"]["model.norm.weight"] = index["weight_map"]["model.embed_tokens.weight"];
  write_json_file(folder.path() / "model.safetensors.index.json", index);
  const auto loaded = tiny_model(true, at::kFloat, 2);
  load_weights(*loaded, folder.path());
  expect_same_weights(*saved, *loaded);
}

// A config may claim any size: it is compared with what is there before anything is built.
TEST(HfFolderTest, AClaimedSizeIsComparedBeforeAnythingIsBuilt) {
  const TemporaryFolder folder;
  save_model_folder(*tiny_model(false, at::kFloat, 1), folder.path(), {});
  Json config = tiny_config(false);
  config["hidden_size"] = 1 << 20;
  config["vocab_size"] = 1 << 22;
  config["num_hidden_layers"] = 4096;
  write_json_file(folder.path() / "config.json", config);
  Settings settings;
  settings.model_name_or_path = folder.path().string();
  const auto message = [&] {
    try {
      check_memory(read_checked_config(settings), settings);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(
      message(),
      HasSubstr("tensor model.embed_tokens.weight has shape [11, 8], config.json says [4194304, 1048576] "
                "(vocab_size, hidden_size)"));
  EXPECT_THAT(message(), HasSubstr("more"));
  EXPECT_LT(message().size(), 5000u);
  settings.train_from_scratch = true;
  EXPECT_THAT(message(), ::testing::AllOf(HasSubstr("config.json: describes a model of"),
                                          HasSubstr("whose weights need"), HasSubstr("GiB a rank"),
                                          HasSubstr("num_hidden_layers 4096")));
}

// The list that is compared is the one that is built.
TEST(HfFolderTest, WantedTensorsAreTheDecodersParameters) {
  for (const bool tied : {true, false}) {
    Json json = tiny_config(tied);
    json["attention_bias"] = true;
    json["mlp_bias"] = true;
    const ModelConfig config = parse_model_config(json, "config.json");
    const std::vector<WantedTensor> wanted = wanted_tensors(config);
    const auto decoder = build_decoder(config, at::kFloat);
    const ParameterList parameters = decoder->parameters();
    ASSERT_EQ(wanted.size(), parameters.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_EQ(wanted[i].name, parameters[i]->name);
      EXPECT_EQ(at::IntArrayRef(wanted[i].shape), parameters[i]->value.sizes()) << wanted[i].name;
    }
  }
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
  const auto set_all_shards = [](const fs::path& folder, const Json& value) {
    Json index = read_json_file(folder / "model.safetensors.index.json");
    for (auto& shard : index["weight_map"]) shard = value;
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
      {"file name must be a string", [&](const fs::path& f) { set_shard(f, 7); }},
      {"absent.safetensors: cannot open",
       [&](const fs::path& f) { set_all_shards(f, "absent.safetensors"); }},
      {"has no tensor model.norm.weight",
       [&](const fs::path& f) { set_all_shards(f, first_shard(f).filename().string()); }},
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
