#include "ithaca/config/generation_config.h"

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/config/config_reader.h"
#include "ithaca/config/model_keys.h"
#include "ithaca/config/python_json.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;
constexpr int64_t kMaxCount = int64_t{1} << 40;

class Reader {
 public:
  Reader(ConfigReader& reader, GenerationConfig& config) : reader_(reader), config_(config) {}

  void eos() {
    if (const Json* value = given("eos_token_id")) config_.eos_token_ids = ids("eos_token_id", *value);
  }

  std::vector<int64_t> list(const char* key) {
    const Json* value = given(key);
    return value ? ids(key, *value) : std::vector<int64_t>{};
  }

  int64_t count(const char* key) {
    const Json* value = given(key);
    if (!value) return 0;
    const std::optional<int64_t> number = exact_integer(*value);
    if (number && *number >= 0 && *number <= kMaxCount) return *number;
    reader_.problem(key, value, str("an integer from 0 to ", kMaxCount));
    return 0;
  }

  std::optional<int64_t> optional_size(const char* key) {
    if (!given(key)) return std::nullopt;
    return reader_.size(key, kMaxCount, 1);
  }

  std::vector<std::vector<int64_t>> sequences(const char* key) {
    std::vector<std::vector<int64_t>> result;
    const Json* value = given(key);
    if (!value) return result;
    if (!value->is_array()) {
      reader_.problem(key, value, "a list of lists of token ids");
      return result;
    }
    for (const Json& sequence : *value) {
      if (!sequence.is_array() || sequence.empty()) {
        reader_.problem(key, &sequence, "a list of token ids");
        break;
      }
      result.push_back(ids(key, sequence));
    }
    return result;
  }

 private:
  const Json* given(const char* key) const { return reader_.has_value(key) ? reader_.find(key) : nullptr; }

  // An id or a list of them; ids below 0 name no token.
  std::vector<int64_t> ids(const char* key, const Json& value) {
    std::vector<int64_t> result;
    const auto add = [&](const Json& one) {
      const std::optional<int64_t> id = exact_integer(one);
      if (!id) return reader_.problem(key, &one, "a token id, or a list of them"), false;
      if (*id >= 0) result.push_back(*id);
      return true;
    };
    if (!value.is_array()) {
      add(value);
      return result;
    }
    for (const Json& one : value)
      if (!add(one)) break;
    return result;
  }

  ConfigReader& reader_;
  GenerationConfig& config_;
};

}  // namespace

GenerationConfig parse_generation_config(const Json& json, const std::string& source, bool whole_file) {
  if (!json.is_object()) throw UserError(str(source, ": expected a JSON object"));
  Problems problems;
  ConfigReader reader(json, source, "", problems);
  GenerationConfig config;
  Reader read(reader, config);
  const std::string note =
      unknown_keys_note(source, reader.check_keys(generation_keys()), "transformers knows no such key there");
  if (whole_file && !note.empty()) config.notes.push_back(note);
  read.eos();
  config.max_new_tokens = read.optional_size("max_new_tokens");
  config.max_length = read.optional_size("max_length");
  config.min_new_tokens = read.count("min_new_tokens");
  config.min_length = read.count("min_length");
  config.repetition_penalty = reader.number("repetition_penalty", 1.0, 1e-6, 1e6);
  config.no_repeat_ngram_size = read.count("no_repeat_ngram_size");
  config.suppress_tokens = read.list("suppress_tokens");
  config.begin_suppress_tokens = read.list("begin_suppress_tokens");
  config.bad_words_ids = read.sequences("bad_words_ids");
  config.forced_eos_token_ids = read.list("forced_eos_token_id");
  if (const std::vector<int64_t> first = read.list("forced_bos_token_id"); !first.empty())
    config.forced_bos_token_id = first.front();
  if (reader.boolean("do_sample", false))
    config.notes.push_back(str(
        source,
        ": do_sample is true: here the likeliest token is taken each time, so that temperature, top_k, top_p "
        "and their like change nothing"));
  problems.throw_if_any(str(source, " asks for what `ithaca generate` does not do:"));
  return config;
}

GenerationConfig read_generation_config(const fs::path& model_folder) {
  const auto read = [](const fs::path& file) {
    return parse_python_json(read_file(file, kMaxFileBytes), file.string());
  };
  const fs::path own = model_folder / "generation_config.json", other = model_folder / "config.json";
  if (fs::exists(own)) return parse_generation_config(read(own), own.string());
  return parse_generation_config(read(other), other.string(), false);
}

}  // namespace ithaca
