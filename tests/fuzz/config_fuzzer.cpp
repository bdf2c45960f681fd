// config.json, generation_config.json, settings files in YAML and JSON, and command lines from bytes: a mistake is a UserError or a
// listed problem, never anything else.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"
#include "ithaca/config/generation_config.h"
#include "ithaca/config/layout.h"
#include "ithaca/config/model_config.h"
#include "ithaca/config/python_json.h"
#include "ithaca/config/settings.h"

namespace {

using namespace ithaca;

void parse_model(std::string_view text) {
  try {
    const ModelConfig config = parse_model_config(parse_python_json(text, "config.json"), "config.json");
    ITHACA_CHECK(count_parameters(config) > 0);
    ITHACA_CHECK(ulysses_traffic(config, 1, 1024, 4, 3, 1).forward >= 0);
  } catch (const UserError&) {
  }
}

void parse_generation(std::string_view text) {
  try {
    const GenerationConfig config =
        parse_generation_config(parse_python_json(text, "generation_config.json"), "generation_config.json");
    ITHACA_CHECK(config.repetition_penalty > 0 && config.min_new_tokens >= 0);
  } catch (const UserError&) {
  }
}

void parse_settings(std::string_view text, const std::string& name,
                    const std::vector<std::string>& arguments) {
  Problems problems;
  const ResolvedSettings first = resolve_settings_text(text, name, arguments, problems);
  if (!problems.empty()) return;
  // What is saved must read back to the same settings.
  Problems none;
  const ResolvedSettings second = resolve_settings_text(settings_to_yaml(first), "saved.yaml", {}, none);
  ITHACA_CHECK(none.empty(), none.list().front());
  ITHACA_CHECK(second.values.learning_rate == first.values.learning_rate);
  ITHACA_CHECK(second.values.cutoff_len == first.values.cutoff_len);
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty() && lines.size() < 100) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      parse_model(text);
      parse_generation(text);
      break;
    case 1:
      parse_settings(text, "run.yaml", {});
      break;
    case 2:
      parse_settings(text, "run.json", {});
      break;
    default:
      parse_settings("", "run.yaml", lines_of(text));
      break;
  }
  return 0;
}
