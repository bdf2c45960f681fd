// Runs each seed of a fuzz target once, as the fuzzer would: the seeds do not rot, and what a fuzzer once found stays found where there is
// no clang. A target without seeds fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ithaca/base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern const char* const kSeedFolder;  // of this target; tests/fuzz/CMakeLists.txt writes it

namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxSeedBytes = 1 << 20;

std::vector<fs::path> seeds() {
  std::vector<fs::path> found;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(kSeedFolder, none))
    if (entry.is_regular_file()) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

std::string case_name(const testing::TestParamInfo<fs::path>& seed) {
  std::string name = seed.param.filename().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

class Seed : public testing::TestWithParam<fs::path> {};

TEST_P(Seed, IsTakenOrRefused) {
  const std::string bytes = ithaca::read_file(GetParam(), kMaxSeedBytes);
  // Exactly as long as the input: a sanitizer sees a read past its end.
  const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

INSTANTIATE_TEST_SUITE_P(Kept, Seed, testing::ValuesIn(seeds()), case_name);

TEST(Seeds, AreKept) {
  EXPECT_FALSE(seeds().empty()) << kSeedFolder << " holds no file: a fuzz target needs at least one seed";
}

}  // namespace
