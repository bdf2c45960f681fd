#include "ithaca/checkpoint/weight_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/integrity.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

template <class Function>
std::string message_of(Function&& function) {
  try {
    function();
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(WeightIndex, GivesTheFileOfEachTensor) {
  EXPECT_THAT(parse_weight_index(
                  R"({"metadata": {"total_size": 8}, "weight_map": {"a": "x.safetensors", "b": "..y"}})",
                  "folder", "index.json"),
              ElementsAre(Pair("a", "x.safetensors"), Pair("b", "..y")));
}

TEST(WeightIndex, RefusesNamesThatLeadOutAndWhatIsNoIndex) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"weight_map": {"a": "../evil"}})", "names the file \"../evil\", which leads"},
      {R"({"weight_map": {"a": "/etc/passwd"}})", "which leads"},
      {R"({"weight_map": {"a": "sub/x"}})", "which leads"},
      {R"({"weight_map": {"a": ".."}})", "is not a file"},
      {R"({"weight_map": {"a": ""}})", "is empty"},
      {R"({"weight_map": {"a": 1}})", "must be a string"},
      {R"({"weight_map": []})", "weight_map must be an object"},
      {R"([])", "weight_map must be an object"},
      {R"({"weight_map": {"a": "x", "a": "y"}})", "occurs twice"},
      {R"({)", "not valid JSON"},
  };
  for (const auto& [text, says] : cases)
    EXPECT_THAT(message_of([&, text = text] { parse_weight_index(text, "folder", "index.json"); }),
                AllOf(HasSubstr("index.json"), HasSubstr(says)))
        << text;
}

// However many entries are wrong, the message stays small.
TEST(WeightIndex, ManyMistakesMakeAShortMessage) {
  Json map = Json::object();
  for (int i = 0; i < 5000; ++i) map["tensor" + std::to_string(i)] = "../" + std::to_string(i);
  const std::string message = message_of([&] {
    parse_weight_index(Json{{"weight_map", map}}.dump(), "folder", "index.json");
  });
  EXPECT_THAT(message, HasSubstr("and 4980 more"));
  EXPECT_LT(message.size(), 8000u);
}

TEST(Integrity, IsReadAsItIsWritten) {
  const std::string hash(64, 'a');
  const Json json = {
      {"format", 1}, {"step", 3}, {"files", {{"sub/x.bin", {{"size", 5u}, {"sha256", hash}}}}}};
  const auto files = parse_integrity(json, 3, "integrity.json");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files.at("sub/x.bin").size, 5u);
  EXPECT_EQ(files.at("sub/x.bin").sha256, hash);
  EXPECT_EQ(parse_integrity(json, std::nullopt, "integrity.json").size(), 1u);
}

TEST(Integrity, RefusesWhatNoCheckpointWrites) {
  const std::string hash(64, 'a');
  const auto with = [&](const char* name, const Json& entry) {
    return Json{{"format", 1}, {"step", 3}, {"files", {{name, entry}}}};
  };
  const Json good = {{"size", 5u}, {"sha256", hash}};
  const std::pair<Json, const char*> cases[] = {
      {Json::array(), "expected format 1"},
      {Json::object(), "expected format 1"},
      {Json{{"format", 2}, {"step", 3}, {"files", Json::object()}}, "expected format 1"},
      {Json{{"format", 1}, {"step", 3}, {"files", Json::array()}}, "expected format 1"},
      {Json{{"format", 1}, {"step", 4}, {"files", Json::object()}}, "is of step 4, the folder's name says 3"},
      {Json{{"format", 1}, {"files", Json::object()}}, "is of step null"},
      {with("../out", good), "no name of a file below"},
      {with("/etc/passwd", good), "no name of a file below"},
      {with("a/../../b", good), "no name of a file below"},
      {with("", good), "no name of a file below"},
      {with("x", Json::array()), "expected a size and a sha256"},
      {with("x", {{"size", -5}, {"sha256", hash}}), "expected a size and a sha256"},
      {with("x", {{"size", 5u}}), "expected a size and a sha256"},
      {with("x", {{"size", 5u}, {"sha256", "abc"}}), "expected a size and a sha256"},
      {with("x", {{"size", 5u}, {"sha256", 7}}), "expected a size and a sha256"},
  };
  for (const auto& [json, says] : cases)
    EXPECT_THAT(message_of([&, &json = json] { parse_integrity(json, 3, "integrity.json"); }),
                AllOf(HasSubstr("integrity.json"), HasSubstr(says)))
        << json;
}

}  // namespace
}  // namespace ithaca
