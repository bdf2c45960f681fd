#include "ithaca/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "ithaca/base/error.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using ::testing::HasSubstr;

std::string with_length(const std::string& header, const std::string& data = "") {
  const uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + data;
}

std::string file_with_length(uint64_t length, const std::string& rest) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + rest;
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span(file)), "some.safetensors");
}

std::string message_of(const std::string& file) {
  try {
    parse(file);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}";
}

struct BadFile {
  std::string file;
  std::string names;  // tensor or key that the message must name
  std::string rule;
};

TEST(SafetensorsHeaderTest, RefusesBadFilesByName) {
  const std::string data4(4, 'x');
  const std::string data8(8, 'x');
  const std::vector<BadFile> cases = {
      {"", "some.safetensors", "too short"},
      {"1234567", "some.safetensors", "too short"},
      {file_with_length(100'000'001, "{}"), "100000001", "limit"},
      {file_with_length(UINT64_MAX, "{}"), "18446744073709551615", "limit"},
      {file_with_length(3, "{}"), "header length 3", "truncated"},
      {with_length(""), "header", "start with '{'"},
      {with_length(" {}"), "header", "start with '{'"},
      {with_length("[]"), "header", "start with '{'"},
      {with_length("{\"a\":"), "header", "not valid JSON"},
      {with_length("{}garbage"), "header", "not valid JSON"},
      {with_length("{\"a\xff\":1}"), "header", "not valid JSON"},
      {with_length("{" + std::string(200, ' ') + "\"a\":" + std::string(100, '[') + std::string(100, ']') +
                   "}"),
       "header", "nested deeper"},
      {with_length("{" + tensor("w", "U8", "[4]", "[0,4]") + "," + tensor("w", "U8", "[4]", "[0,4]") + "}",
                   data4),
       "\"w\"", "occurs twice"},
      {with_length("{\"w\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}", data4),
       "\"dtype\"", "occurs twice"},
      {with_length("{\"__metadata__\":3}"), "__metadata__", "must be an object"},
      {with_length("{\"__metadata__\":{\"k\":1}}"), "\"k\"", "must be a string"},
      {with_length("{\"w\":[]}"), "\"w\"", "must be an object"},
      {with_length("{\"w\":{\"shape\":[],\"data_offsets\":[0,1]}}", "x"), "\"w\"", "dtype is missing"},
      {with_length("{\"w\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", "x"), "\"w\"", "shape is missing"},
      {with_length("{\"w\":{\"dtype\":\"U8\",\"shape\":[]}}", "x"), "\"w\"", "data_offsets is missing"},
      {with_length("{\"w\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"extra\":1}}", "x"),
       "\"w\"", "unknown key \"extra\""},
      {with_length("{\"w\":{\"dtype\":7,\"shape\":[],\"data_offsets\":[0,1]}}", "x"), "\"w\"",
       "dtype must be a string"},
      {with_length("{" + tensor("w", "F8_E4M3", "[4]", "[0,4]") + "}", data4), "\"w\"",
       "F8_E4M3 is not supported"},
      {with_length("{" + tensor("w", "U8", "4", "[0,4]") + "}", data4), "\"w\"", "shape must be a list"},
      {with_length("{" + tensor("w", "U8", "[-4]", "[0,4]") + "}", data4), "\"w\"", "whole numbers"},
      {with_length("{" + tensor("w", "U8", "[4.0]", "[0,4]") + "}", data4), "\"w\"", "whole numbers"},
      {with_length("{" + tensor("w", "U8", "[9223372036854775808]", "[0,4]") + "}", data4), "\"w\"",
       "whole numbers"},
      {with_length("{" + tensor("w", "U8", "[4]", "[0]") + "}", data4), "\"w\"", "two numbers"},
      {with_length("{" + tensor("w", "U8", "[4]", "[4,0]") + "}", data4), "\"w\"", "backwards"},
      {with_length("{" + tensor("w", "U8", "[4]", "[-4,0]") + "}", data4), "\"w\"", "whole numbers"},
      {with_length("{" + tensor("w", "F32", "[2]", "[0,4]") + "}", data4), "\"w\"", "need 8"},
      // 2^62 * 4 wraps around to 0 in 64 bits
      {with_length("{" + tensor("w", "F32", "[4611686018427387904]", "[0,0]") + "}"), "\"w\"", "overflows"},
      {with_length("{" + tensor("w", "U8", "[4294967296,4294967296,2]", "[0,4]") + "}", data4), "\"w\"",
       "overflows"},
      {with_length("{" + tensor("v", "U8", "[4]", "[0,4]") + "," + tensor("w", "U8", "[3]", "[5,8]") + "}",
                   data8),
       "\"w\"", "hole"},
      {with_length("{" + tensor("w", "U8", "[4]", "[4,8]") + "}", data8), "\"w\"", "hole"},
      {with_length("{" + tensor("v", "U8", "[5]", "[0,5]") + "," + tensor("w", "U8", "[4]", "[4,8]") + "}",
                   data8),
       "\"w\"", "overlaps"},
      {with_length("{" + tensor("v", "U8", "[8]", "[0,8]") + "," + tensor("w", "U8", "[8]", "[0,8]") + "}",
                   data8),
       "\"w\"", "overlaps"},
      {with_length("{" + tensor("w", "U8", "[8]", "[0,8]") + "}", data4), "\"w\"", "truncated"},
      {with_length("{" + tensor("w", "U8", "[4]", "[0,4]") + "}", data8), "byte 4", "the file holds 8"},
      {with_length("{}", "x"), "byte 0", "the file holds 1"},
  };
  ASSERT_GE(cases.size(), 25U);
  for (const BadFile& bad : cases) {
    const std::string message = message_of(bad.file);
    EXPECT_THAT(message, HasSubstr("some.safetensors"));
    EXPECT_THAT(message, HasSubstr(bad.names));
    EXPECT_THAT(message, HasSubstr(bad.rule));
  }
}

TEST(SafetensorsHeaderTest, AcceptsScalarsEmptyTensorsAndPadding) {
  const SafetensorsHeader header =
      parse(with_length("{\"__metadata__\":{\"format\":\"pt\"}," + tensor("scalar", "F32", "[]", "[0,4]") +
                            "," + tensor("empty", "F64", "[3,0]", "[4,4]") + "}    ",
                        "abcd"));
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_TRUE(header.tensors.at("scalar").shape.empty());
  EXPECT_EQ(header.tensors.at("empty").shape, (std::vector<int64_t>{3, 0}));
  EXPECT_EQ(header.tensors.at("empty").begin, 4U);
}

// Written by the safetensors package 0.8.0: see tools/oracles/checkpoint_safetensors_oracle.py.
TEST(SafetensorsFileTest, ReadsTheReferenceWritersFile) {
  const SafetensorsFile file = SafetensorsFile::open(std::string(ITHACA_SOURCE_DIR) +
                                                     "/tests/golden/checkpoint/reference.safetensors");
  ASSERT_EQ(file.header().tensors.size(), 11U);
  EXPECT_EQ(file.header().metadata.at("origin"), "reference");
  const TensorInfo& f32 = file.header().tensors.at("f32");
  EXPECT_EQ(f32.dtype, DType::kF32);
  ASSERT_EQ(f32.shape, (std::vector<int64_t>{2, 3}));
  std::vector<float> values(6);
  std::memcpy(values.data(), file.data(f32).data(), 24);
  EXPECT_EQ(values, (std::vector<float>{0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 2.5F}));
  const TensorInfo& bf16 = file.header().tensors.at("bf16");
  EXPECT_EQ(bf16.dtype, DType::kBF16);
  uint16_t one = 0;
  std::memcpy(&one, file.data(bf16).data(), 2);
  EXPECT_EQ(one, 0x3F80);  // 1.0
  EXPECT_EQ(file.header().tensors.at("f64").dtype, DType::kF64);
  EXPECT_EQ(file.header().tensors.at("f16").dtype, DType::kF16);
  EXPECT_EQ(file.header().tensors.at("i64").dtype, DType::kI64);
  EXPECT_EQ(file.header().tensors.at("i32").dtype, DType::kI32);
  EXPECT_EQ(file.header().tensors.at("i16").dtype, DType::kI16);
  EXPECT_EQ(file.header().tensors.at("i8").dtype, DType::kI8);
  EXPECT_EQ(file.header().tensors.at("u8").dtype, DType::kU8);
  EXPECT_EQ(file.header().tensors.at("bool").dtype, DType::kBool);
  EXPECT_TRUE(file.data(file.header().tensors.at("empty")).empty());
}

TensorToWrite bytes_tensor(const std::string& name, DType dtype, std::vector<int64_t> shape,
                           const std::string& bytes) {
  return {name, dtype, std::move(shape),
          [bytes = std::make_shared<std::string>(bytes)] { return std::as_bytes(std::span(*bytes)); }};
}

TEST(SafetensorsFileTest, ReadsWhatItWroteAndKeepsTensorsAligned) {
  const TemporaryFolder folder;
  const std::vector<TensorToWrite> tensors = {
      bytes_tensor("odd", DType::kU8, {3}, "abc"), bytes_tensor("half", DType::kBF16, {1, 2}, "0123"),
      bytes_tensor("wide", DType::kF64, {}, "01234567"), bytes_tensor("none", DType::kF32, {0, 7}, "")};
  write_safetensors(folder.path() / "a.safetensors", tensors, {{"step", "3"}});
  const SafetensorsFile file = SafetensorsFile::open(folder.path() / "a.safetensors");
  EXPECT_EQ(file.header().metadata, (std::map<std::string, std::string>{{"format", "pt"}, {"step", "3"}}));
  EXPECT_EQ(file.header().data_offset % 8, 0U);
  ASSERT_EQ(file.header().tensors.size(), tensors.size());
  for (const TensorToWrite& written : tensors) {
    const TensorInfo& info = file.header().tensors.at(written.name);
    EXPECT_EQ(info.dtype, written.dtype);
    EXPECT_EQ(info.shape, written.shape);
    EXPECT_EQ(info.begin % dtype_size(info.dtype), 0U) << written.name;
    const auto data = file.data(info);
    const auto expected = written.bytes();
    EXPECT_TRUE(std::equal(data.begin(), data.end(), expected.begin(), expected.end())) << written.name;
  }
}

TEST(SafetensorsFileTest, AFailingWriteLeavesTheOldFile) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  write_safetensors(path, {bytes_tensor("w", DType::kU8, {3}, "old")});
  const std::vector<TensorToWrite> failing = {
      bytes_tensor("v", DType::kU8, {3}, "new"),
      {"w", DType::kU8, {3}, []() -> std::span<const std::byte> { throw UserError("no bytes"); }}};
  EXPECT_THROW(write_safetensors(path, failing), UserError);
  const SafetensorsFile file = SafetensorsFile::open(path);
  const auto data = file.data(file.header().tensors.at("w"));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), data.size()), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()),
                          std::filesystem::directory_iterator()),
            1);
}

TEST(SafetensorsFileTest, SaysWhatCannotBeWritten) {
  EXPECT_THROW(write_safetensors("/proc/nowhere/a.safetensors", {}), UserError);
}

}  // namespace
}  // namespace ithaca
