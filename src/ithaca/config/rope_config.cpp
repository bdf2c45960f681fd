// Follows transformers 5's reading of the two spellings: a rope_scaling that says something wins over
// rope_parameters, and rope_theta inside that object wins over the one beside it.
#include <nlohmann/json.hpp>
#include <utility>

#include "ithaca/config/config_reader.h"
#include "ithaca/config/model_keys.h"

namespace ithaca {
namespace {

constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 1e6;

using Type = RopeConfig::Type;

constexpr std::pair<const char*, Type> kTypes[] = {{"default", Type::kDefault},
                                                   {"linear", Type::kLinear},
                                                   {"dynamic", Type::kDynamic},
                                                   {"llama3", Type::kLlama3},
                                                   {"yarn", Type::kYarn}};

Type read_type(ConfigReader& reader) {
  const char* key = reader.has_value("rope_type") ? "rope_type" : "type";
  const std::string name = reader.text(key, "default");
  for (const auto& [known, type] : kTypes)
    if (name == known) return type;
  reader.problem(key, reader.find(key), "one of: default, linear, dynamic, llama3, yarn");
  return Type::kDefault;
}

void read_llama3(ConfigReader& reader, RopeConfig& rope) {
  rope.low_freq_factor = reader.required_number("low_freq_factor", 1e-6, kMaxFactor);
  rope.high_freq_factor = reader.required_number("high_freq_factor", 1e-6, kMaxFactor);
  if (rope.high_freq_factor <= rope.low_freq_factor)
    reader.add(str("high_freq_factor ", rope.high_freq_factor, " must be above low_freq_factor ",
                   rope.low_freq_factor));
}

void read_yarn(ConfigReader& reader, RopeConfig& rope) {
  // 0 means the default there (transformers writes `or 32`)
  const double fast = reader.number("beta_fast", 32, 0, kMaxFactor),
               slow = reader.number("beta_slow", 1, 0, kMaxFactor);
  rope.beta_fast = fast == 0 ? 32 : fast;
  rope.beta_slow = slow == 0 ? 1 : slow;
  if (rope.beta_fast < rope.beta_slow)
    reader.add(str("beta_fast ", rope.beta_fast, " must not be below beta_slow ", rope.beta_slow));
  rope.attention_factor = reader.optional_number("attention_factor", 1e-6, kMaxFactor);
  rope.mscale = reader.optional_number("mscale", 0, kMaxFactor);
  rope.mscale_all_dim = reader.optional_number("mscale_all_dim", 0, kMaxFactor);
  rope.truncate = reader.boolean("truncate", true);
}

void read_scaling(ConfigReader& reader, int64_t max_positions, RopeConfig& rope) {
  rope.type = read_type(reader);
  rope.theta = reader.number("rope_theta", rope.theta, 1e-3, kMaxTheta);
  // dynamic scales from max_position_embeddings itself, whatever else the file holds
  if (rope.type != Type::kDynamic)
    rope.original_max_position_embeddings = reader.size("original_max_position_embeddings", int64_t{1} << 40,
                                                        rope.original_max_position_embeddings);
  if (rope.type == Type::kDefault) return;
  const bool derived =
      rope.type == Type::kYarn && !reader.has_value("factor") && rope.original_max_position_embeddings > 0;
  rope.factor = derived ? static_cast<double>(max_positions) /
                              static_cast<double>(rope.original_max_position_embeddings)
                        : reader.required_number("factor", 1, kMaxFactor);
  if (rope.type == Type::kLlama3) read_llama3(reader, rope);
  if (rope.type == Type::kYarn) read_yarn(reader, rope);
}

}  // namespace

RopeConfig read_rope_config(ConfigReader& reader, int64_t max_position_embeddings,
                            std::vector<std::string>& notes) {
  RopeConfig rope;
  rope.theta = reader.number("rope_theta", 10000.0, 1e-3, kMaxTheta);
  rope.original_max_position_embeddings = max_position_embeddings;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!reader.has_value(key)) continue;
    if (!reader.find(key)->is_object()) {
      reader.problem(key, reader.find(key),
                     "an object such as {\"rope_type\": \"llama3\", \"factor\": 8.0, ...}, or null");
      continue;
    }
    if (reader.find(key)->empty()) continue;
    ConfigReader inner = reader.inside(key);
    const std::string note = unknown_keys_note(reader.source(), inner.check_keys(rope_keys()),
                                               "no rotary embedding here reads such a key");
    if (!note.empty()) notes.push_back(note);
    read_scaling(inner, max_position_embeddings, rope);
    break;
  }
  return rope;
}

}  // namespace ithaca
