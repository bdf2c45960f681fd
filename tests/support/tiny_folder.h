// A folder with what a run needs: a tiny Llama config, a tokenizer of one token a character, a text. Training
// on it takes milliseconds a step.
#pragma once
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace ithaca {

class TinyFolder {
 public:
  TinyFolder() {
    write("model/config.json", config().dump(2));
    write("model/tokenizer.json", tokenizer().dump());
    write("model/tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>"})");
    std::string text;
    for (int i = 0; i < 60; ++i)
      text +=
          "verse " + std::to_string(i) + ": in the beginning was the word " + std::to_string(i * i) + "\n";
    write("train.txt", text);
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const { folder_.write(name, text); }
  std::string read(const std::string& name) const {
    std::stringstream text;
    text << std::ifstream(folder_ / name, std::ios::binary).rdbuf();
    return text.str();
  }
  nlohmann::json json(const std::string& name) const { return nlohmann::json::parse(read(name)); }
  std::vector<nlohmann::json> json_lines(const std::string& name) const {
    std::vector<nlohmann::json> result;
    std::istringstream lines(read(name));
    for (std::string line; std::getline(lines, line) && !lines.eof();)  // the last may be half written
      result.push_back(nlohmann::json::parse(line));
    return result;
  }
  bool has(const std::string& name) const { return std::filesystem::exists(path(name)); }
  void copy(const std::string& from, const std::string& to) const {
    std::filesystem::copy(path(from), path(to), std::filesystem::copy_options::recursive);
  }

  static nlohmann::json config() {
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
  static nlohmann::json tokenizer() {
    using nlohmann::json;
    json vocabulary, added = json::array();
    int id = 0;
    for (const char* text : {"<s>", "</s>", "<unk>"}) {
      added.push_back({{"id", id},
                       {"content", text},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
      vocabulary[text] = id++;
    }
    for (char c = ' '; c <= '~'; ++c) vocabulary[std::string(1, c)] = id++;
    return {{"version", "1.0"},
            {"added_tokens", added},
            {"normalizer", nullptr},
            {"pre_tokenizer", nullptr},
            {"post_processor", nullptr},
            {"decoder", nullptr},
            {"model",
             {{"type", "BPE"}, {"unk_token", "<unk>"}, {"vocab", vocabulary}, {"merges", json::array()}}}};
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace ithaca
