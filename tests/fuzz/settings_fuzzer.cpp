// Settings files from bytes, YAML or JSON by the first byte: a mistake is a listed problem, never anything else, and what
// is saved reads back to the same settings.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/config/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using namespace ithaca;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  Problems problems;
  const ResolvedSettings first =
      resolve_settings_text(text, data[0] % 4 == 0 ? "run.json" : "run.yaml", {}, problems);
  for (const std::string& problem : problems.list()) ITHACA_CHECK(!problem.empty());
  if (!problems.empty()) return 0;
  Problems none;
  const std::string saved = settings_to_yaml(first);
  const ResolvedSettings second = resolve_settings_text(saved, "saved.yaml", {}, none);
  ITHACA_CHECK(none.empty(), none.list().front());
  ITHACA_CHECK(settings_to_yaml(second).size() > 0);
  for (const auto& [name, origin] : first.origin) ITHACA_CHECK(second.origin.contains(name), name);
  return 0;
}
