#include "tests/train/tiny_run.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "ithaca/base/hash.h"
#include "ithaca/base/json.h"
#include "ithaca/comm/thread_world.h"

namespace fs = std::filesystem;

namespace ithaca::testing_run {
namespace {

// One token a printable ASCII character, in the order of ids; <s> 0 and </s> 1 before them.
Json byte_tokenizer() {
  Json vocabulary = {{"<s>", 0}, {"</s>", 1}, {"<unk>", 2}};
  for (int c = ' '; c <= '~'; ++c) vocabulary[std::string(1, static_cast<char>(c))] = c - ' ' + 3;
  const auto special = [](const char* text, int id) {
    return Json{{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  return {
      {"version", "1.0"},
      {"added_tokens", {special("<s>", 0), special("</s>", 1), special("<unk>", 2)}},
      {"normalizer", nullptr},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", nullptr},
      {"model", {{"type", "BPE"}, {"unk_token", "<unk>"}, {"vocab", vocabulary}, {"merges", Json::array()}}}};
}

Json tiny_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 98},
          {"hidden_size", 24},
          {"intermediate_size", 40},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 3},
          {"num_key_value_heads", 1},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", true},
          {"hidden_act", "silu"},
          {"rope_theta", 10000.0},
          {"bos_token_id", 0},
          {"eos_token_id", 1}};
}

}  // namespace

TinyRun::TinyRun() {
  std::string name = (fs::temp_directory_path() / "ithaca-run-XXXXXX").string();
  EXPECT_NE(::mkdtemp(name.data()), nullptr);
  folder_ = name;
  fs::create_directories(folder_ / "model");
  write_json_file(path("model/config.json"), tiny_config());
  write_json_file(path("model/tokenizer.json"), byte_tokenizer());
  write_json_file(path("model/tokenizer_config.json"), {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  std::ofstream text(path("train.txt"));
  std::ofstream documents(path("docs.jsonl"));
  for (int i = 0; i < 60; ++i) {
    text << "verse " << i << ": in the beginning was the word " << i * i << "\n";
    documents << R"({"text": ")"
              << std::string(static_cast<std::size_t>(i % 7), static_cast<char>('a' + i % 26)) << " and " << i
              << "\"}\n";
  }
}

TinyRun::~TinyRun() {
  fs::remove_all(folder_);
}

ExitCode TinyRun::train(const std::string& output, std::vector<std::string> arguments, int ranks) {
  const std::vector<std::string> defaults = {"--model_name_or_path",
                                             path("model"),
                                             "--train_from_scratch",
                                             "--train_file",
                                             path("train.txt"),
                                             "--output_dir",
                                             path(output),
                                             "--cutoff_len",
                                             "31",
                                             "--per_device_train_batch_size",
                                             "2",
                                             "--max_steps",
                                             "6",
                                             "--logging_steps",
                                             "1",
                                             "--save_steps",
                                             "1",
                                             "--learning_rate",
                                             "0.01",
                                             "--cache_dir",
                                             path("cache"),
                                             "--ddp_timeout",
                                             "30",
                                             "--plot_loss",
                                             "false"};
  for (std::string& argument : arguments)
    if (argument == "docs.jsonl") argument = path(argument);
  fs::create_directories(path(output));
  arguments.insert(arguments.begin(), defaults.begin(), defaults.end());
  const ResolvedSettings settings = resolve_settings({}, arguments);
  ExitCode code = kInternal;
  run_thread_ranks(ranks, [&](Communicator& world) {
    RankEnvironment environment;
    environment.rank = environment.local_rank = world.rank();
    environment.world_size = environment.local_world_size = ranks;
    Logger logger(world.rank(), false, {});
    const ExitCode mine = ithaca::train({settings, environment, world, logger, stop});
    if (world.rank() == 0) code = mine;
  });
  return code;
}

std::string TinyRun::bits_of_checkpoint(const std::string& output, int64_t step) const {
  const fs::path folder = path(output) / str("checkpoint-", step);
  return sha256_of_file(folder / "model.safetensors") + sha256_of_file(folder / "optimizer.safetensors");
}

std::string TinyRun::bits_of_weights(const std::string& output) const {
  return sha256_of_file(path(output) / "model.safetensors");
}

}  // namespace ithaca::testing_run
