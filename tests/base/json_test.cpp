#include "ithaca/base/json.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(ParseJson, ASyntaxErrorNamesTheSource) {
  for (const char* text : {"", "{", "{\"a\": }", "[1, 2", "{} {}", "nan", "\"\xff\"", "[1e999]"})
    EXPECT_THAT([&] { parse_json(text, "config.json"); },
                ThrowsMessage<UserError>(HasSubstr("config.json: not valid JSON")))
        << text;
}

TEST(ParseJson, AKeyMayOccurOnceInAnObject) {
  EXPECT_THAT([] { parse_json(R"({"a": 1, "b": {"c": 2, "c": 3}})", "config.json"); },
              ThrowsMessage<UserError>(
                  AllOf(HasSubstr("config.json"), HasSubstr("the key \"c\" occurs twice in one object"))));
  EXPECT_EQ(parse_json(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})", "config.json").at("b").size(), 2u);
}

TEST(ParseJson, DepthIsLimited) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse_json(nested(3), "config.json", 3));
  EXPECT_THAT([&] { parse_json(nested(4), "config.json", 3); },
              ThrowsMessage<UserError>(HasSubstr("config.json: nested deeper than 3 levels")));
  EXPECT_THROW(parse_json(std::string(1000000, '['), "config.json"), UserError);
}

TEST(JsonFile, WritesSortedAndReadsBack) {
  const TemporaryFolder folder;
  write_json_file(folder / "a.json", Json{{"b", 1}, {"a", "x"}});
  EXPECT_EQ(read_file(folder / "a.json", 100), "{\n  \"a\": \"x\",\n  \"b\": 1\n}\n");
  EXPECT_EQ(read_json_file(folder / "a.json").at("b"), 1);
  EXPECT_THROW(read_json_file(folder / "a.json", 5), UserError);
  EXPECT_THROW(read_json_file(folder / "none.json"), UserError);
}

TEST(JsonFile, BytesThatAreNoUtf8DoNotEndTheRun) {
  const TemporaryFolder folder;
  write_json_file(folder / "a.json", Json{{"text", "a\xff"}});
  EXPECT_EQ(read_json_file(folder / "a.json").at("text"), "a\xef\xbf\xbd");
}

}  // namespace
}  // namespace ithaca
