#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/convert.h"
#include "ithaca/base/error.h"
#include "ithaca/base/json.h"
#include "ithaca/checkpoint/gguf.h"
#include "ithaca/checkpoint/safetensors.h"
#include "tests/checkpoint/gguf_model.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class ConvertTest : public ::testing::Test {
 protected:
  fs::path write(const std::string& bytes) {
    fs::path path = folder_.path() / "model.gguf";
    write_file(path, bytes);
    return path;
  }
  void convert(const std::string& bytes, const std::string& dtype = "float32") {
    convert_gguf(write(bytes), out(), dtype, [this](const std::string& line) { lines_.push_back(line); });
  }
  std::string message_of(const std::string& bytes) {
    try {
      convert(bytes);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }
  fs::path out() const { return folder_.path() / "out"; }

  TemporaryFolder folder_;
  std::vector<std::string> lines_;
};

std::vector<float> floats_of(const SafetensorsFile& file, const std::string& name) {
  const auto data = file.data(file.header().tensors.at(name));
  std::vector<float> values(data.size() / sizeof(float));
  std::memcpy(values.data(), data.data(), data.size());
  return values;
}

TEST_F(ConvertTest, WritesAWholeFolderWithTheRotaryPermutationUndone) {
  convert(gguf_model());
  EXPECT_EQ(lines_.size(), 6U);
  const SafetensorsFile file = SafetensorsFile::open(out() / "model.safetensors");
  EXPECT_EQ(file.header().tensors.size(), 11U);  // tied: no head
  EXPECT_EQ(file.header().tensors.at("model.embed_tokens.weight").shape,
            (std::vector<int64_t>{kVocab, kHidden}));
  // heads of 4 rows: rows 0 1 2 3 of the file are elements (0,0) (0,1) (1,0) (1,1) of [D/2, 2], wanted as [2,
  // D/2]: 0 2 1 3
  const std::vector<float> q = floats_of(file, "model.layers.0.self_attn.q_proj.weight");
  const std::vector<int> from = {0, 2, 1, 3, 4, 6, 5, 7};
  ASSERT_EQ(q.size(), 64U);
  for (std::size_t row = 0; row < from.size(); ++row)
    EXPECT_EQ(q[row * kHidden], 3.0F + static_cast<float>(from[row] * kHidden) / 1024.0F) << row;
  const std::vector<float> v = floats_of(file, "model.layers.0.self_attn.v_proj.weight");
  EXPECT_EQ(v[kHidden], 5.0F + 8.0F / 1024.0F);

  const Json config = read_json_file(out() / "config.json");
  EXPECT_EQ(config["architectures"], Json({"LlamaForCausalLM"}));
  EXPECT_EQ(config["num_key_value_heads"], 1);
  EXPECT_EQ(config["head_dim"], 4);
  EXPECT_EQ(config["vocab_size"], kVocab);
  EXPECT_EQ(config["rms_norm_eps"], 1e-5);
  EXPECT_EQ(config["tie_word_embeddings"], true);
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(config["eos_token_id"], 1);
  EXPECT_EQ(read_json_file(out() / "generation_config.json")["eos_token_id"], 1);
}

TEST_F(ConvertTest, RoundsToBfloat16AndKeepsAnUntiedHead) {
  GgufModel options;
  options.head = true;
  options.kv_heads = 2;
  convert(gguf_model(options), "bfloat16");
  const SafetensorsFile file = SafetensorsFile::open(out() / "model.safetensors");
  const TensorInfo& head = file.header().tensors.at("lm_head.weight");
  EXPECT_EQ(head.dtype, DType::kBF16);
  uint16_t bits[5];
  std::memcpy(bits, file.data(head).data(), sizeof(bits));
  EXPECT_EQ(bits[0], std::bit_cast<uint32_t>(12.0F) >> 16);
  // bfloat16 has steps of 1/16 at 12; 12 + 4/1024 rounds down
  EXPECT_EQ(bits[4], std::bit_cast<uint32_t>(12.0F) >> 16);
  EXPECT_EQ(read_json_file(out() / "config.json")["tie_word_embeddings"], false);
  EXPECT_EQ(read_json_file(out() / "config.json")["torch_dtype"], "bfloat16");
}

TEST_F(ConvertTest, WritesAByteLevelTokenizer) {
  convert(gguf_model());
  const Json tokenizer = read_json_file(out() / "tokenizer.json");
  EXPECT_EQ(tokenizer["pre_tokenizer"]["pretokenizers"][0],
            Json({{"type", "Digits"}, {"individual_digits", true}}));
  EXPECT_EQ(tokenizer["pre_tokenizer"]["pretokenizers"][1]["type"], "ByteLevel");
  EXPECT_EQ(tokenizer["model"]["merges"], Json::array({Json::array({"a", "b"})}));
  EXPECT_EQ(tokenizer["model"]["vocab"]["ab"], 4);
  ASSERT_EQ(tokenizer["added_tokens"].size(), 3U);
  EXPECT_EQ(tokenizer["added_tokens"][1]["content"], "</s>");
  EXPECT_EQ(tokenizer["added_tokens"][1]["special"], true);
  EXPECT_EQ(tokenizer["added_tokens"][2]["content"], "c");
  EXPECT_EQ(tokenizer["added_tokens"][2]["special"], false);
  EXPECT_TRUE(tokenizer["post_processor"].is_null());
  const Json config = read_json_file(out() / "tokenizer_config.json");
  EXPECT_EQ(config["chat_template"], "{{ messages }}");
  EXPECT_EQ(config["eos_token"], "</s>");
  EXPECT_EQ(read_json_file(out() / "special_tokens_map.json"),
            Json({{"bos_token", "<s>"}, {"eos_token", "</s>"}}));
}

TEST_F(ConvertTest, TurnsSentencePieceScoresIntoMergesBestFirst) {
  GgufModel options;
  options.model = "llama";
  convert(gguf_model(options));
  const Json tokenizer = read_json_file(out() / "tokenizer.json");
  EXPECT_EQ(tokenizer["model"]["merges"],
            Json::array({Json::array({"\u2581", "a"}), Json::array({"a", "b"})}));
  EXPECT_EQ(tokenizer["model"]["byte_fallback"], true);
  EXPECT_EQ(tokenizer["normalizer"]["normalizers"][0], Json({{"type", "Prepend"}, {"prepend", "\u2581"}}));
  EXPECT_EQ(tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
  EXPECT_EQ(tokenizer["post_processor"]["special_tokens"]["<s>"]["ids"], Json::array({0}));
  EXPECT_EQ(tokenizer["post_processor"]["special_tokens"]["<s>"]["tokens"], Json::array({"<s>"}));
}

TEST_F(ConvertTest, RefusesWhatItCannotConvertByName) {
  struct Case {
    GgufModel options;
    std::string says;
  };
  const std::vector<Case> cases = {
      {{.architecture = "qwen3"}, "general.architecture: is qwen3"},
      {{.model = "bert"}, "tokenizer.ggml.model: is bert"},
      {{.pre = "falcon"}, "tokenizer.ggml.pre: is falcon"},
      {{.kv_heads = 3}, "llama.attention.head_count_kv"},
      {{.head = true, .leave_out = "blk.0.ffn_up.weight"}, "tensor blk.0.ffn_up.weight is missing"},
      {{.leave_out = "token_embd.weight"}, "token_embd.weight"},
      {{.merge = "ab"}, "tokenizer.ggml.merges: entry 0 is \"ab\""},
      {{.merge = "a c"}, "needs the token \"ac\""},
      {{.eos = 10}, "tokenizer.ggml.eos_token_id"},
  };
  for (const Case& one : cases) {
    const std::string message = message_of(gguf_model(one.options));
    EXPECT_THAT(message, HasSubstr("model.gguf"));
    EXPECT_THAT(message, HasSubstr(one.says));
    EXPECT_FALSE(fs::exists(out() / "model.safetensors"));
  }
}

TEST_F(ConvertTest, CommandLine) {
  const std::string gguf = write(gguf_model()).string();
  const std::string out_dir = out().string();
  EXPECT_THROW(run_convert({gguf}), UserError);
  EXPECT_THROW(run_convert({gguf, out_dir, "third"}), UserError);
  EXPECT_THROW(run_convert({gguf, out_dir, "--dtype"}), UserError);
  EXPECT_THROW(run_convert({gguf, out_dir, "--dtype", "int8"}), UserError);
  EXPECT_THROW(run_convert({gguf, out_dir, "--fast"}), UserError);
  EXPECT_THROW(run_convert({gguf + ".absent", out_dir}), UserError);
  EXPECT_EQ(run_convert({gguf, out_dir, "--dtype=bfloat16"}), kDone);
  EXPECT_THROW(run_convert({gguf, out_dir}), UserError);  // not empty
  EXPECT_EQ(run_convert({gguf, out_dir, "--overwrite"}), kDone);
  EXPECT_EQ(read_json_file(out() / "config.json")["torch_dtype"], "float32");
  EXPECT_EQ(run_convert({"--help"}), kDone);
}

}  // namespace
}  // namespace ithaca
